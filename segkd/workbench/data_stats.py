"""What the labels of a split hold: pixels and images of each class, sizes, and the class weights that follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkd.datasets import SegmentationDataset
from segkd.datasets.base import IGNORE
from segkd.datasets.threads import in_threads
from segkd.datasets.verify import count_values
from segkd.errors import UserError
from segkd.supervision import (
    effective_number_weights,
    inverse_frequency_weights,
    median_frequency_weights,
)
from segkd.workbench import Progress, silent
from segkd.workbench.datasets import open_splits, spread
from segkd.workbench.settling import class_weights

#: the class weights that are given, and what they are
WEIGHTS = {
    "inverse_frequency": "all pixels / (classes x pixels)",
    "median_frequency": "median frequency / frequency, of the images that show the class (Eigen and Fergus 2015)",
    "enet": '1 / ln(1.02 + share of all pixels) (ENet), as class_weight="@enet"',
    "effective_number": "(1 - 0.999) / (1 - 0.999^images), mean 1 (Cui et al. 2019)",
}
KEY = "model.supervision.main.loss.class_weight"  # where they go in a config


class Stats(NamedTuple):
    """What was counted.

    split, pairs, looked: the split, how many pairs it has, and how many of these were counted.
    pixels, images: of each class, its pixels and the images that show it.
    void: void's pixels.
    beside: of each class, all pixels but void's in the images that show it.
    sizes: (H, W) -> how many images.
    """

    split: str
    pairs: int
    looked: int
    class_names: Sequence[str]
    pixels: Sequence[int]
    images: Sequence[int]
    void: int
    beside: Sequence[int]
    sizes: Mapping[tuple[int, int], int]

    @property
    def shares(self) -> list[float]:
        """The share of each class in all pixels, void's counted too."""
        total = sum(self.pixels) + self.void
        return [count / total for count in self.pixels]

    def weights(self) -> dict[str, list[float]]:
        """The usual class weights by their names (``WEIGHTS``), in four digits behind the point."""
        found = {
            "inverse_frequency": inverse_frequency_weights(self.pixels),
            "median_frequency": median_frequency_weights(self.pixels, self.beside),
            "enet": class_weights("@enet", self.shares),
            "effective_number": effective_number_weights(self.images),
        }
        return {name: [round(weight, 4) for weight in values] for name, values in found.items()}

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        sizes = [[height, width, count] for (height, width), count in self.sizes.items()]
        return {**self._asdict(), "sizes": sizes, "shares": self.shares, "weights": self.weights()}


class _Counts(NamedTuple):
    """Pixels (256,) of each value of a label, and its size (H, W)."""

    pixels: NDArray[np.int64]
    size: tuple[int, int]


def count_split(
    section: Mapping[str, Any], split: str = "train", limit: int | None = None, progress: Progress = silent
) -> Stats:
    """Count the labels of a split.

    Args:
        section: see ``segkd.workbench.datasets.open_section``.
        split: its name.
        limit: labels to count, evenly spread; by default all.

    Raises:
        UserError: a label that cannot be read; nothing but void.
    """
    ((_, dataset),) = open_splits(section, [split])
    if isinstance(dataset, UserError):
        raise dataset
    indices = spread(len(dataset), limit)
    counted = _counted(dataset, indices, progress)
    every = np.stack([one.pixels[: dataset.num_classes] for one in counted])
    pixels, void = every.sum(0), sum(int(one.pixels[IGNORE]) for one in counted)
    if not pixels.any():
        raise UserError(f"all {len(indices)} labels of {split} are void everywhere: there is nothing to weigh")
    shown = every > 0
    beside = (shown * every.sum(1, keepdims=True)).sum(0)
    sizes = Counter(one.size for one in counted)
    return Stats(
        split, len(dataset), len(indices), list(dataset.class_names), pixels.tolist(), shown.sum(0).tolist(), void,
        beside.tolist(), dict(sizes.most_common()),
    )  # fmt: skip


def _counted(dataset: SegmentationDataset, indices: Sequence[int], progress: Progress) -> list[_Counts]:
    def look(index: int) -> _Counts:
        label = dataset.label_of(index)
        return _Counts(count_values(label), (label.shape[0], label.shape[1]))

    found = []
    for done, one in enumerate(in_threads(look, indices), 1):
        found.append(one)
        progress("counting", done, len(indices))
    return found
