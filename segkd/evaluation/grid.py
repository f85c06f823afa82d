"""Where windows lie along one side of an image, and which of them each pixel of a label map is made of.

A label map may have another size than the image that is looked at (a scale). Its pixels are then between two of the
image's, as in bilinear interpolation with half-pixel centres.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of windows that cover ``length``; the last window is moved back to end at the edge."""
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


class Span(NamedTuple):
    """Neighbouring pixels of a label map, along one side, that are made of the same windows.

    Attributes:
        target: of the label map.
        source: the pixels of the image that they lie between.
        windows: numbers of the first and the last window that have a part in them.
        low, high: for each target pixel the two of the image, counted from the first of ``source``.
        fraction: its distance to the lower one, 0..1.
        share: for each pixel of ``source``, 1 / windows that see it.
    """

    target: slice
    source: slice
    windows: tuple[int, int]
    low: Tensor
    high: Tensor
    fraction: Tensor
    share: Tensor

    @property
    def plain(self) -> bool:
        """True where label map and image have the same pixels."""
        return not bool(self.fraction.any())


class Side:
    """One side of a label map of ``target`` pixels, of an image of ``source`` pixels seen in windows.

    Args:
        window, stride: of the image's pixels; a window as large as the side sees all of it.
        most: pixels of a span at most.
    """

    def __init__(self, source: int, target: int, window: int, stride: int, most: int) -> None:
        self.starts = window_starts(source, window, stride)
        self.window = min(window, source)
        self.low, self.high, self.fraction = neighbours(source, target)
        ends = np.array(self.starts) + self.window
        last = np.where(self.fraction > 0, self.high, self.low)
        self.first_window = np.searchsorted(ends, self.low, side="right")
        self.last_window = np.searchsorted(self.starts, last, side="right") - 1
        counts = np.zeros(source)
        for start in self.starts:
            counts[start : start + self.window] += 1
        self.share = 1 / counts
        self.most = max(1, most)

    def spans(self) -> Iterator[Span]:
        """All of the side, in order."""
        pairs = np.stack([self.first_window, self.last_window], 1)
        changes = [0, *(np.flatnonzero((pairs[1:] != pairs[:-1]).any(1)) + 1).tolist(), len(pairs)]
        for begin, end in zip(changes, changes[1:], strict=False):
            for first in range(begin, end, self.most):
                yield self._span(first, min(first + self.most, end))

    def _span(self, begin: int, end: int) -> Span:
        low, high, fraction = self.low[begin:end], self.high[begin:end], self.fraction[begin:end]
        source = slice(int(low[0]), int(high[-1]) + 1)
        windows = int(self.first_window[begin]), int(self.last_window[begin])
        first, part = int(low[0]), torch.from_numpy(self.share[source]).float()
        indices = torch.from_numpy(low - first), torch.from_numpy(high - first)
        return Span(slice(begin, end), source, windows, *indices, torch.from_numpy(fraction).float(), part)


def neighbours(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The two of ``source`` pixels that each of ``target`` lies between, and its distance to the lower one."""
    places = ((np.arange(target) + 0.5) * (source / target) - 0.5).clip(0)
    low = np.minimum(places.astype(np.int64), source - 1)
    high = np.minimum(low + 1, source - 1)
    fraction = np.where(high > low, places - low, 0.0)
    high = np.where(fraction > 0, high, low)
    return low, high, fraction


def resample(x: Tensor, rows: Span, columns: Span) -> Tensor:
    """Maps (N, K, h, w) of the pixels ``source`` of two spans -> those of their ``target``, bilinear."""
    return _along(_along(x, rows, -2), columns, -1)


def _along(x: Tensor, span: Span, dim: int) -> Tensor:
    if span.plain:
        return x if len(span.low) == x.shape[dim] else x.index_select(dim, span.low.to(x.device))
    low, high = (x.index_select(dim, index.to(x.device)) for index in (span.low, span.high))
    weight = span.fraction.to(x.device)
    return low.lerp_(high, weight if dim == -1 else weight[:, None])
