"""Several data sets with the same classes, as one."""

from __future__ import annotations

import bisect
import inspect
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from segkd.datasets.base import DATASETS, Array, Sample, SegmentationDataset
from segkd.errors import UserError


@DATASETS.register("concat")
class Concat(SegmentationDataset):
    """The pairs of several data sets, one set after the other; the colours are those of the first.

    Args:
        sets: two or more, each ``dict(type=..., root=...)`` or an object.
        split: of all sets that know splits and are not told theirs.
        check: see ``FilePairs``.

    Raises:
        UserError: classes that differ in name or order, with the first that does.
    """

    splits = ("train", "val")

    def __init__(
        self, sets: Sequence[Mapping[str, Any] | SegmentationDataset], split: str | None = None, check: bool = True
    ) -> None:
        if not isinstance(sets, list | tuple) or not sets:
            raise UserError(f"concat needs sets=[dict(type=...), ...], one or more data sets, got {sets!r}")
        self.parts = [open_part(one, split, check) for one in sets]
        for number, part in enumerate(self.parts[1:], 2):
            _check_classes(number, part, self.parts[0])
            if part.channels != self.parts[0].channels:
                raise UserError(
                    f"concat: set {number} has images of {part.channels} bands, the first {self.parts[0].channels}"
                )
        self.class_names, self.palette = self.parts[0].class_names, self.parts[0].palette
        self.channels = self.parts[0].channels
        self.unpaired = [text for part in self.parts for text in part.unpaired]
        self.withheld = tuple(dict.fromkeys(name for part in self.parts for name in part.withheld))
        self._ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        part, own = self.part_of(index)
        return part[own]

    def by_rows(self, index: int) -> Sample:
        part, own = self.part_of(index)
        return part.by_rows(own)

    def label_of(self, index: int) -> Array:
        part, own = self.part_of(index)
        return part.label_of(own)

    def files_of(self, index: int) -> Sequence[Path] | None:
        part, own = self.part_of(index)
        return part.files_of(own)

    def part_of(self, index: int) -> tuple[SegmentationDataset, int]:
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"concat has {len(self)} pairs, no index {index}")
        number = bisect.bisect_right(self._ends, at)
        return self.parts[number].part_of(at - (self._ends[number - 1] if number else 0))

    def name_of(self, index: int) -> str:
        """The set's number and the name in it: names may be the same in two sets."""
        number = bisect.bisect_right(self._ends, index)
        part, own = self.part_of(index)
        return f"{number + 1}/{part.name_of(own)}"


def open_part(given: Any, split: str | None, check: bool = True) -> SegmentationDataset:
    """A data set by ``dict(type=...)``, told the split if it takes one and has none; an object as it is."""
    if not isinstance(given, Mapping):
        if not isinstance(given, SegmentationDataset):
            raise UserError(f"a data set is given as dict(type=...) or as an object, got {given!r}")
        return given
    arguments = dict(given)
    known = inspect.signature(DATASETS.resolve(arguments.get("type"))).parameters if "type" in arguments else {}
    if split is not None and "split" in known:
        arguments.setdefault("split", split)
    if "check" in known:
        arguments.setdefault("check", check)
    return DATASETS.build(arguments)


def _check_classes(number: int, part: SegmentationDataset, first: SegmentationDataset) -> None:
    names, wanted = list(part.class_names), list(first.class_names)
    if names == wanted:
        return
    pairs = enumerate(zip(wanted, names, strict=False))
    found = next((f"class {k} is {b!r}, not {a!r}" for k, (a, b) in pairs if a != b), None)
    raise UserError(
        f"concat: set {number} ({type(part).__name__}) has other classes than the first: "
        f"{found or f'it has {len(names)}, not {len(wanted)}'}; they must have the same names in the same order"
    )
