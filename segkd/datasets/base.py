"""What every data set is: indexed pairs of an RGB image and a label map, with the names and colours of its classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkd.errors import UserError
from segkd.registry import Described, Registry

IGNORE = 255
RGB = 3  # bands of an image
Array = NDArray[np.uint8]


class Sample(NamedTuple):
    """One pair: image (H, W, 3) uint8 RGB; label (H, W) uint8 with classes 0..K-1 and 255 = ignore.

    The image of a data set with more ``channels`` has more bands.
    """

    image: Array
    label: Array


class DataError(UserError):
    """A file of a data set that cannot be used."""


class SegmentationDataset(Described, ABC):
    """Base of all data sets.

    Attributes:
        class_names: one name per class, in id order.
        palette: one (R, G, B) per class.
        splits: those that are opened where none is named.
        withheld: splits whose labels the owners keep, so that they cannot be scored here.
        unpaired: what lacks its partner, a line each, where that is let pass.
        counts: how many pairs each split has, as its owners published it.
        channels: bands of its images, the first three RGB.
        licence: the page on which the owners say what their data may be used for.
    """

    class_names: Sequence[str]
    palette: Sequence[tuple[int, int, int]]
    splits: Sequence[str] = ("train", "val", "test")
    withheld: Sequence[str] = ()
    unpaired: Sequence[str] = ()
    counts: Mapping[str, int] = {}
    channels: int = RGB
    licence: str = ""

    @property
    def num_classes(self) -> int:
        """The number of classes, K."""
        return len(self.class_names)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """The pair at ``index``; an unreadable file or a label outside the classes is a UserError naming the file."""

    def label_of(self, index: int) -> Array:
        """The label (H, W) at ``index``; a data set that can read it without the image overrides this."""
        return self[index].label

    def by_rows(self, index: int) -> Sample:
        """The pair at ``index``; either part may be one that ``part[rows, columns]`` alone can be asked of."""
        return self[index]

    def files_of(self, index: int) -> Sequence[Path] | None:
        """The files that the pair at ``index`` is read from, the image first, so that a change of them can be seen.

        None of a data set that does not say; () of one that has none, whose arguments alone decide.
        """
        return None

    def part_of(self, index: int) -> tuple[SegmentationDataset, int]:
        """The data set that holds the pair at ``index``, and its index there: itself, unless it is made of others."""
        return self, index

    def name_of(self, index: int) -> str:
        """A short name of the pair for messages and file names."""
        return str(index)


DATASETS: Registry[SegmentationDataset] = Registry("data set", "segkd.datasets")
