"""A data set as it looks where files that cannot be used are passed over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from segkd.datasets.base import RGB, Array, Sample, SegmentationDataset
from segkd.errors import UserError

T = TypeVar("T")


class Tolerant(SegmentationDataset):
    """``dataset``, but for a pair whose file cannot be used it gives the next that can.

    It is for looks at labels before a training; in the training, draws are replaced (see ``TrainView``).
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset
        self.class_names, self.palette = dataset.class_names, dataset.palette
        self.channels = getattr(dataset, "channels", RGB)  # of one that is only like one of ours

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return Sample(*self._first(self.dataset.__getitem__, index))

    def label_of(self, index: int) -> Array:
        if not isinstance(self.dataset, SegmentationDataset):  # only like one of ours
            return self[index].label
        return self._first(self.dataset.label_of, index)

    def name_of(self, index: int) -> str:
        return self.dataset.name_of(index)

    def _first(self, read: Callable[[int], T], index: int) -> T:
        """What the first pair from ``index`` on gives that can be read; the last error if there is none."""
        count = len(self)
        for number in range(count):
            try:
                return read((index + number) % count)
            except UserError:
                if number == count - 1:
                    raise
        return read(index)
