"""A random crop of a resized image, cut out before anything is resized: the same pixels at a part of the work."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segkd.datasets.base import IGNORE, Array
from segkd.views import View

MEAN_COLOUR = (124, 116, 104)  # ImageNet's mean, RGB: zero after the usual preprocessing
MEAN_OTHER = 115  # of a further band
Size = tuple[int, int]


class Cut(NamedTuple):
    """Where a crop lies on its image.

    source: (H, W) of the image.
    scaled: (H, W) that the image is resized to.
    top, left: of the crop on the resized image; below 0 where it begins with padding.
    size: (H, W) of the crop.
    mirrored: left to right, after the cut.
    """

    source: Size
    scaled: Size
    top: int
    left: int
    size: Size
    mirrored: bool = False

    def view(self) -> View:
        """The same as what teachers need that see other than the crop."""
        down, along = (own / scaled for own, scaled in zip(self.source, self.scaled, strict=True))
        left = self.left + self.size[1] if self.mirrored else self.left
        return View(self.top * down, down, left * along, -along if self.mirrored else along)

    def seen(self) -> tuple[slice, slice]:
        """Rows and columns of the resized image that the crop shows."""
        ends = ((self.top, self.size[0], self.scaled[0]), (self.left, self.size[1], self.scaled[1]))
        rows, columns = (slice(max(0, first), min(first + side, end)) for first, side, end in ends)
        return rows, columns


def draw_scaled(size: Sequence[int], scale: Sequence[float] | None, seed: int) -> Size:
    """(H, W) that an image gets, by a factor uniform in ``scale``."""
    if scale is None:
        return int(size[0]), int(size[1])
    factor = random.Random(seed).uniform(scale[0] - 1.0, scale[1] - 1.0) + 1.0
    return int(size[0] * factor), int(size[1] * factor)


def draw_place(scaled: Size, crop: Size, generator: random.Random) -> tuple[int, int]:
    """(top, left) of a crop, uniform over all places; where it is the larger one, the image has any place within it."""
    padding = [max(0, side - own) for own, side in zip(scaled, crop, strict=True)]
    before = [generator.randint(0, one) for one in padding] if any(padding) else [0, 0]
    room = [max(0, own - side) for own, side in zip(scaled, crop, strict=True)]
    top, left = (int((one + 1) * generator.random()) - pad for one, pad in zip(room, before, strict=True))
    return top, left


def draw_coin(probability: float, seed: int) -> bool:
    """True with that probability."""
    return probability >= 1 or (probability > 0 and random.Random(seed).random() < probability)


def cut_image(image: Array, cut: Cut) -> Array:
    """The crop (H, W, C) of an image (h, w, C), resized linearly; padded with the mean colour."""
    return _finish(_resized(image, cut), cut, (*MEAN_COLOUR, *[MEAN_OTHER] * (image.shape[2] - len(MEAN_COLOUR))))


def cut_label(label: Array, cut: Cut) -> Array:
    """The crop (H, W) of a label (h, w), resized to the nearest pixel; padded with 255 = ignore."""
    rows, columns = cut.seen()
    if cut.scaled == cut.source:
        return _finish(label[rows, columns], cut, IGNORE)
    places = (_nearest(own, scaled) for own, scaled in zip(cut.source, cut.scaled, strict=True))
    down, along = (own[part] for own, part in zip(places, (rows, columns), strict=True))
    return _finish(label[: down[-1] + 1, : along[-1] + 1].take(down, 0).take(along, 1), cut, IGNORE)


def _resized(image: Array, cut: Cut) -> Array:
    """What the crop shows of the resized image.

    OpenCV counts a pixel's place from the image's upper left corner, in float32; so a part that begins there is
    resized bit for bit as within the whole, and one that begins elsewhere is not.
    """
    rows, columns = cut.seen()
    if cut.scaled == cut.source:
        return image[rows, columns]
    down, along = (scaled / own for own, scaled in zip(cut.source, cut.scaled, strict=True))
    needed = image[: math.ceil(rows.stop / down) + 2, : math.ceil(columns.stop / along) + 2]
    resized = cv2.resize(needed, None, fx=along, fy=down, interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized[rows, columns], np.uint8)


@lru_cache(maxsize=256)
def _nearest(count: int, scaled: int) -> NDArray[np.intp]:
    """The pixel of a row of ``count`` that each of ``scaled`` shows, as OpenCV has it, in whose words it is asked."""
    places = np.arange(count, dtype=np.float32)[None]
    return np.asarray(cv2.resize(places, (scaled, 1), interpolation=cv2.INTER_NEAREST_EXACT)[0], np.intp)


def _finish(seen: Array, cut: Cut, fill: Any) -> Array:
    """What the crop shows of the image, padded and mirrored, as an array of its own."""
    if seen.shape[:2] == cut.size:
        return np.asarray(cv2.flip(seen, 1), np.uint8) if cut.mirrored else seen.copy()
    if cut.mirrored:
        seen = seen[:, ::-1]
    rows, columns = cut.seen()
    top, left = rows.start - cut.top, columns.start - cut.left
    if cut.mirrored:
        left = cut.size[1] - left - seen.shape[1]
    made = np.empty((*cut.size, *seen.shape[2:]), np.uint8)
    made[:] = fill
    made[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
    return made
