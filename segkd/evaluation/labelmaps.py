"""Label maps of images of any size, without their logits ever being in memory at the full size all at once.

``label_map`` gives what the strongest class of ``with_views``'s logits is, up to ties. Those logits of an image of 20
megapixels and 150 classes take 12 GB, and each view as much again. Here windows are predicted one by one; what no later
window sees is finished at once: its strongest class is taken, or its probabilities go to where those of all views are
added up, which is a temporary file if they are many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.evaluation.grid import Side, Span, resample, window_starts
from segkd.evaluation.looking import Size, Views
from segkd.evaluation.spilling import MEMORY, Sums, Waiting
from segkd.images import resize_image

Predict = Callable[[Tensor], Tensor]
CELL_BYTES = 16 * 2**20  # of logits that are handled at once, beside a window's
LARGE = 2**24  # pixels of an image that is resized channel by channel


class Seen(NamedTuple):
    """What is seen in images.

    Attributes:
        label: (N, H, W), the strongest class; uint8 up to 256 classes.
        confidence: (N, H, W) float32, its probability; None unless it was asked for.
    """

    label: Tensor
    confidence: Tensor | None


class _Sheet:
    """Label maps in the making."""

    def __init__(self, count: int, size: Size, confident: bool) -> None:
        self.shape, self.confident = (count, *size), confident
        self.label: Tensor | None = None
        self.confidence: Tensor | None = None

    def put(self, rows: slice, columns: slice, scores: Tensor, probable: bool = False) -> None:
        """Take the strongest class of logits (N, K, h, w), or of sums of probabilities."""
        if self.label is None:
            kind = torch.uint8 if scores.shape[1] <= 256 else torch.int32
            self.label = torch.empty(self.shape, dtype=kind, device=scores.device)
            if self.confident:
                self.confidence = torch.empty(self.shape, device=scores.device)
        largest, found = scores.max(1)
        self.label[:, rows, columns] = found
        if self.confidence is not None:
            sure = largest / scores.sum(1) if probable else (largest - scores.logsumexp(1)).exp()
            self.confidence[:, rows, columns] = sure

    def seen(self) -> Seen:
        assert self.label is not None
        return Seen(self.label, self.confidence)


@torch.no_grad()
def label_map(
    predict: Predict, image: Tensor, size: Size | None = None, views: Views | None = None, *, confident: bool = False
) -> Seen:
    """The strongest class of each pixel of images.

    Args:
        predict: images (N, 3, H, W) uint8 -> logits (N, K, h, w), resized bilinearly where (h, w) is not that of the
            image.
        image: (N, 3, H, W) uint8.
        size: (H, W) of the label maps (default: the image's).
        views: how the image is looked at (default: once, as a whole).
        confident: also say how sure it is.
    """
    views = views or Views()
    size = size or (int(image.shape[-2]), int(image.shape[-1]))
    sheet = _Sheet(len(image), size, confident)
    if views.count == 1:
        for rows, columns, logits in _one_look(predict, image, size, views, views.scales[0]):
            sheet.put(rows, columns, logits)
            del logits  # a part of a window's, which would stay beside the next one's
        return sheet.seen()
    sums = Sums(views.count)
    for flip, scale in product((False, True) if views.flip else (False,), views.scales):
        for rows, columns, logits in _one_look(predict, image.flip(-1) if flip else image, size, views, scale):
            if flip:
                columns, logits = slice(size[1] - columns.stop, size[1] - columns.start), logits.flip(-1)
            sums.add(rows, columns, logits.softmax(1), size)
            del logits
    for rows, total in sums.strips(CELL_BYTES):
        sheet.put(rows, slice(None), total, probable=True)
    return sheet.seen()


Cell = tuple[slice, slice, Tensor]


def _one_look(predict: Predict, image: Tensor, size: Size, views: Views, scale: float) -> Iterator[Cell]:
    """Logits of one view, piece by piece: rows and columns of the label map, and (N, K, h, w) float32."""
    seen = _scaled(image, scale)
    if views.window is None:
        logits = predict(seen)
        yield from _pieces(logits, size)
        return
    yield from _windows(predict, seen, size, views.window, views.steps)


def _scaled(image: Tensor, scale: float) -> Tensor:
    """The image at another size; a large one channel by channel, as that is done in float32."""
    size = (max(1, round(image.shape[-2] * scale)), max(1, round(image.shape[-1] * scale)))
    if max(image[0, 0].numel(), size[0] * size[1]) < LARGE:
        return resize_image(image, size)
    return torch.cat([resize_image(image[:, k : k + 1], size) for k in range(image.shape[1])], 1)


def _most(logits: Tensor, width: int) -> int:
    """Rows of a piece of that width."""
    return max(1, CELL_BYTES // (4 * logits.shape[0] * logits.shape[1] * width))


def _pieces(logits: Tensor, size: Size) -> Iterator[Cell]:
    """The whole as it is, or, where it is to have another size, in pieces of rows."""
    height, width = int(logits.shape[-2]), int(logits.shape[-1])
    if (height, width) == size and logits.shape[1] * height * width * len(logits) * 4 <= 32 * CELL_BYTES:
        yield slice(None), slice(0, width), logits
        return
    (columns,) = Side(width, size[1], width, width, size[1]).spans()
    for rows in Side(height, size[0], height, height, _most(logits, size[1])).spans():
        yield rows.target, columns.target, resample(logits[:, :, rows.source].float(), rows, columns)


def _windows(predict: Predict, image: Tensor, size: Size, window: Size, stride: Size) -> Iterator[Cell]:
    """Logits averaged over windows, piece by piece, each as soon as its last window has been seen."""
    source = (int(image.shape[-2]), int(image.shape[-1]))
    starts = [window_starts(source[k], window[k], stride[k]) for k in (0, 1)]
    order = list(product(range(len(starts[0])), range(len(starts[1]))))
    if source[1] > source[0]:  # less waits where the inner loop is along the shorter side
        order.sort(key=lambda number: number[::-1])
    mosaic = None
    for number in order:
        top, left = starts[0][number[0]], starts[1][number[1]]
        part = image[:, :, top : top + window[0], left : left + window[1]]
        logits = predict(part).float()
        if logits.shape[-2:] != part.shape[-2:]:
            logits = F.interpolate(logits, size=part.shape[-2:], mode="bilinear", align_corners=False)
        mosaic = mosaic or _Mosaic(source, size, window, stride, logits)
        yield from mosaic.add(number, (top, left), logits)
        del logits  # before the next ones are there


class _Mosaic:
    """A label map's pieces, and what is known of those that wait for further windows.

    They wait at the size of the image or of the label map, whichever is smaller.
    """

    def __init__(self, source: Size, size: Size, window: Size, stride: Size, like: Tensor) -> None:
        self.enlarging = size[0] * size[1] > source[0] * source[1]
        columns = list(Side(source[1], size[1], window[1], stride[1], size[1]).spans())
        widest = max(len(span.low) for span in columns)
        shrinking = max(1.0, source[0] * source[1] / (size[0] * size[1]))  # of a piece as it is resampled
        rows = list(Side(source[0], size[0], window[0], stride[0], _most(like, round(widest * shrinking))).spans())
        self.rows, self.columns = _by_window(rows), _by_window(columns)
        self.waiting = Waiting(MEMORY // 2)

    def add(self, number: tuple[int, int], corner: tuple[int, int], logits: Tensor) -> Iterator[Cell]:
        """Take a window's logits (N, K, h, w); the pieces that it was the last to see."""
        for rows, columns in product(self.rows[number[0]], self.columns[number[1]]):
            key = (rows.target.start, columns.target.start)
            seen = _part(logits, corner, rows, columns, self.waiting.take(key) if self.enlarging else None)
            if not self.enlarging:
                seen = resample(seen, rows, columns)
                if (before := self.waiting.take(key)) is not None:
                    seen = before.add_(seen)
            if (rows.windows[1], columns.windows[1]) != number:
                self.waiting.keep(key, seen)
            else:
                self.waiting.forget(key)
                yield rows.target, columns.target, resample(seen, rows, columns) if self.enlarging else seen


def _by_window(spans: Sequence[Span]) -> dict[int, list[Span]]:
    """The spans that each window has a part in."""
    found: dict[int, list[Span]] = {}
    for span in spans:
        for number in range(span.windows[0], span.windows[1] + 1):
            found.setdefault(number, []).append(span)
    return found


def _part(logits: Tensor, corner: tuple[int, int], rows: Span, columns: Span, before: Tensor | None) -> Tensor:
    """A window's share in the mean over all windows (N, K, h, w), at a piece's source pixels, added to ``before``."""
    (top, bottom), (left, right) = (
        (max(span.source.start, first), min(span.source.stop, first + length))
        for span, first, length in zip((rows, columns), corner, logits.shape[-2:], strict=True)
    )
    own = logits[:, :, top - corner[0] : bottom - corner[0], left - corner[1] : right - corner[1]]
    if rows.windows[0] == rows.windows[1] and columns.windows[0] == columns.windows[1]:
        return own
    if before is None:
        shape = (*logits.shape[:2], len(rows.share), len(columns.share))
        before = logits.new_zeros(shape)
    at_row, at_column = top - rows.source.start, left - columns.source.start
    height, width = bottom - top, right - left
    share = rows.share[at_row : at_row + height, None] * columns.share[at_column : at_column + width]
    before[:, :, at_row : at_row + height, at_column : at_column + width].addcmul_(own, share.to(own.device))
    return before
