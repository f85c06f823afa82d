"""Pairs of a split to look at, as they are stored and as a training sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from segkd.datasets import SegmentationDataset
from segkd.datasets.base import Array
from segkd.datasets.image_files import visible
from segkd.datasets.seeds import mix_seed
from segkd.errors import UserError
from segkd.training.build import build_transform
from segkd.workbench import Progress, silent
from segkd.workbench.datasets import open_splits, spread

Row = tuple[str, list[tuple[Array, Array]]]  # a name; images (H, W, 3) with labels (H, W)


class Pairs(NamedTuple):
    """Some pairs of a split.

    augment: the training augmentation, or None.
    seed: of its draws.
    """

    dataset: SegmentationDataset
    split: str
    indices: Sequence[int]
    augment: Callable[[Array, Array, int], tuple[Array, Array]] | None
    seed: int

    @property
    def heads(self) -> list[str]:
        """What each image of a row shows."""
        return ["as stored"] + ["as a training sees it"] * (self.augment is not None)

    def title(self) -> str:
        """What the pairs are, in a line."""
        return f"{type(self.dataset).__name__} {self.split}: {len(self.indices)} of {len(self.dataset)} pairs"

    def rows(self, progress: Progress = silent) -> Iterator[Row]:
        """The pairs, read one by one."""
        for done, index in enumerate(self.indices, 1):
            image, label = self.dataset[index]
            pairs = [(image, label)]
            if self.augment is not None:
                pairs.append(self.augment(image, label, mix_seed(self.seed, index)))
            yield self.dataset.name_of(index), [(visible(shown), own) for shown, own in pairs]
            progress("drawing", done, len(self.indices))


def open_pairs(
    section: Mapping[str, Any], split: str = "train", count: int = 12, augmented: bool = False, seed: int = 0
) -> Pairs:
    """Pairs of a split, evenly spread.

    Args:
        section: see ``segkd.workbench.datasets.open_section``.
        split: its name.
        count: how many, at most.
        augmented: also as the training augmentation of the section makes them, drawn by ``seed``.

    Raises:
        UserError: the split cannot be opened, or is empty.
    """
    ((_, dataset),) = open_splits(section, [split])
    if isinstance(dataset, UserError):
        raise dataset
    augment = build_transform(section["augment"], dataset) if augmented else None
    return Pairs(dataset, split, spread(len(dataset), count), augment, seed)
