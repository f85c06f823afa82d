"""Which crops are taken: around a pixel of a rare class, and not nearly all of one class."""

from __future__ import annotations

import random
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from segkd.datasets.base import IGNORE, Array
from segkd.datasets.cutting import Cut, Size, cut_label, draw_place
from segkd.errors import UserError

TRIES = 10  # as mmsegmentation has it


class RareClasses:
    """Draws classes, the rarer the likelier: by ``exp((1 - share) / temperature)`` (Hoyer et al., CVPR 2022, eq. 9).

    Args:
        class_share: share of each class in the pixels of the training labels.
        temperature: the smaller, the more the rarest is preferred.
    """

    def __init__(self, class_share: Sequence[float], temperature: float) -> None:
        self.class_share, self.temperature = np.asarray(class_share, np.float64), temperature

    def probabilities(self, present: Sequence[int] | NDArray[np.intp]) -> NDArray[np.float64]:
        """How likely each of these classes is drawn."""
        power = (1 - self.class_share[np.asarray(present, np.intp)]) / self.temperature
        found = np.exp(power - power.max())
        return np.asarray(found / found.sum(), np.float64)

    def draw(self, label: Array, generator: np.random.Generator) -> int | None:
        """A class that a label (H, W) has; None of one that is void everywhere."""
        present = np.flatnonzero(counts_of(label)[:IGNORE])
        if not len(present):
            return None
        if present[-1] >= len(self.class_share):
            raise UserError(f"class_share has {len(self.class_share)} shares, and a label holds class {present[-1]}")
        return int(generator.choice(present, p=self.probabilities(present)))


def counts_of(label: Array) -> NDArray[np.float32]:
    """How many pixels of a label (H, W) have each of the values 0..255."""
    return np.asarray(cv2.calcHist([np.ascontiguousarray(label)], [0], None, [256], [0, 256]), np.float32).ravel()


def draw_pixel(label: Array, value: int, generator: np.random.Generator) -> tuple[int, int]:
    """(row, column) of a pixel that has this value, each as likely."""
    found = np.flatnonzero(label == value)
    row, column = divmod(int(found[generator.integers(len(found))]), label.shape[1])
    return row, column


def place_around(pixel: tuple[int, int], cut: Cut) -> Cut:
    """The cut with its crop moved so that this pixel of the image is in its middle, as far as the image reaches.

    Where the crop is larger than the image, it stays.
    """
    places = []
    for at, own, scaled, side, place in zip(pixel, cut.source, cut.scaled, cut.size, (cut.top, cut.left), strict=True):
        middle = round((at + 0.5) * scaled / own - side / 2)
        places.append(place if scaled < side else min(max(middle, 0), scaled - side))
    return cut._replace(top=places[0], left=places[1])


def largest_share(label: Array) -> float:
    """The share of the commonest class in the pixels of a label (H, W) that are not void; 1 where all are."""
    counts = counts_of(label)[:IGNORE]
    total = counts.sum()
    return float(counts.max() / total) if total else 1.0


def choose_cut(
    label: Array,
    cut: Cut,
    generator: random.Random,
    most: float = 1.0,
    rare: RareClasses | None = None,
    chooser: np.random.Generator | None = None,
) -> Cut:
    """A cut like ``cut`` at another place.

    Args:
        label: (h, w) of the whole image.
        cut: where the crop lies without all this.
        generator: of further places.
        most: share that no class may exceed in the crop; after 10 crops in which one does, the next is taken.
        rare: draws the class of the pixel in the crop's middle, ``chooser`` the pixel; None for crops anywhere.
    """
    if rare is not None and chooser is not None:
        cut = _around_rare(label, cut, rare, chooser)
    if most >= 1:
        return cut
    for _ in range(TRIES):
        if largest_share(cut_label(label, cut)) <= most:
            break
        top, left = draw_place(cut.scaled, cut.size, generator)
        cut = cut._replace(top=top, left=left)
        if rare is not None and chooser is not None:
            cut = _around_rare(label, cut, rare, chooser)
    return cut


def _around_rare(label: Array, cut: Cut, rare: RareClasses, chooser: np.random.Generator) -> Cut:
    value = rare.draw(label, chooser)
    return cut if value is None else place_around(draw_pixel(label, value, chooser), cut)


def cut_of(source: Sequence[int], scaled: Size, crop: Size, generator: random.Random, mirrored: bool) -> Cut:
    """A crop anywhere on the resized image."""
    top, left = draw_place(scaled, crop, generator)
    return Cut((source[0], source[1]), scaled, top, left, crop, mirrored)
