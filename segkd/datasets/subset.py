"""A part of a data set: a share or a number of its pairs, drawn by a seed, or those that a list names."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segkd import arguments
from segkd.datasets.base import DATASETS, Array, Sample, SegmentationDataset
from segkd.datasets.concat import open_part
from segkd.datasets.layout import read_names
from segkd.errors import UserError, nearest


@DATASETS.register("subset")
class Subset(SegmentationDataset):
    """Some pairs of a data set, in their order.

    Of one seed, a smaller share is a part of a larger one; what is drawn depends on the number of pairs and the seed
    alone.

    Args:
        of: the data set: its name, with its arguments beside it, ``dict(type=...)``, or an object.
        share: of the pairs, above 0 and at most 1; at least one pair.
        count: how many pairs, in place of a share.
        names: the pairs by name, in place of both: a list, or a text file with a name on each line.
        seed: of the draw.
        split: of the data set.
        splits: which splits are cut; others are whole, as a validation should be.
        check: see ``FilePairs``.
        more: arguments of ``of``, where that is a name.
    """

    splits = ("train", "val")

    def __init__(
        self,
        of: Any,
        share: float | None = None,
        count: int | None = None,
        names: Sequence[str] | str | Path | None = None,
        seed: int = 0,
        split: str | None = None,
        splits: Sequence[str] = ("train",),
        check: bool = True,
        **more: Any,
    ) -> None:
        if sum(given is not None for given in (share, count, names)) != 1:
            raise UserError("subset needs one of share=0.1, count=100 and names=[...]")
        if more and not isinstance(of, str):
            raise UserError(f"subset has no argument {next(iter(more))!r}: give it within of=dict(type=...)")
        self.whole = open_part(dict(type=of, **more) if isinstance(of, str) else of, split, check)
        self.class_names, self.palette = self.whole.class_names, self.whole.palette
        self.channels = self.whole.channels
        self.withheld, self.unpaired = self.whole.withheld, self.whole.unpaired
        self.indices: Sequence[int] = range(len(self.whole))
        if split is None or split in splits:
            self.indices = self._named(names) if names is not None else self._drawn(share, count, seed)

    def _drawn(self, share: float | None, count: int | None, seed: int) -> list[int]:
        total = len(self.whole)
        if share is not None:
            share = arguments.number(share, "share", "subset", above=0)
            if share > 1:
                raise UserError(f"subset: share is at most 1, got {share:g}")
            count = max(1, round(share * total))
        count = arguments.integer(count, "count", "subset", 1)
        if count > total:
            raise UserError(f"subset: count={count} of {total} pairs; take fewer")
        return sorted(random.Random(seed).sample(range(total), total)[:count])

    def _named(self, given: Sequence[str] | str | Path) -> list[int]:
        names = (
            read_names(Path(given).expanduser(), "subset", words=False)
            if isinstance(given, str | Path)
            else list(given)
        )
        numbers = {self.whole.name_of(k): k for k in range(len(self.whole))}
        if not names:
            raise UserError("subset: names is empty")
        for name in names:
            if name not in numbers:
                raise UserError(f"subset: no pair is called {name!r}; {nearest(name, numbers)}")
        return sorted({numbers[name] for name in names})

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.whole[self.indices[index]]

    def by_rows(self, index: int) -> Sample:
        return self.whole.by_rows(self.indices[index])

    def label_of(self, index: int) -> Array:
        return self.whole.label_of(self.indices[index])

    def files_of(self, index: int) -> Sequence[Path] | None:
        return self.whole.files_of(self.indices[index])

    def part_of(self, index: int) -> tuple[SegmentationDataset, int]:
        return self.whole.part_of(self.indices[index])

    def name_of(self, index: int) -> str:
        return self.whole.name_of(self.indices[index])
