"""Data sets as the command line and Python name them: opened split by split, and verified."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from segkd.datasets import DATASETS, SegmentationDataset
from segkd.datasets.base import IGNORE
from segkd.datasets.verify import examine
from segkd.errors import UserError
from segkd.training.config import Data
from segkd.training.configfile import CONFIG, load_config, read_variables
from segkd.training.labels import MUCH_VOID, RATHER
from segkd.training.overrides import override
from segkd.workbench import Progress, silent
from segkd.workbench.composing import data_source
from segkd.workbench.making import SPLITS

ANY_SIZE = (32, 32)  # of crops that are not made


class Split(NamedTuple):
    """What was found in one split of a data set."""

    name: str
    pairs: int
    looked: int
    class_names: Sequence[str]
    pixels: Sequence[int]
    void: int
    problems: Sequence[str]
    published: int | None = None

    @property
    def void_share(self) -> float:
        """The share of void in the pixels, in percent."""
        total = sum(self.pixels) + self.void
        return 100 * self.void / total if total else 0.0

    @property
    def notes(self) -> list[str]:
        """What is no problem of a file, but should be known."""
        found = []
        if self.class_names and self.published not in (None, self.pairs):
            found.append(f"{self.pairs:,} pairs, where {self.published:,} were published: is a part of it missing?")
        if not sum(self.pixels) + self.void:
            return found
        absent = [name for name, count in zip(self.class_names, self.pixels, strict=True) if not count]
        shown = ", ".join(absent[:10]) + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")
        if absent:
            found.append(f"no pixel of {shown}")
        if len(self.class_names) - len(absent) == 1:
            found.append(f"one class alone, so that every score will be 100 or 0 and mean nothing{RATHER}")
        elif self.void_share > 100 * MUCH_VOID:
            found.append(f"{self.void_share:.0f} % of the pixels are void ({IGNORE}){RATHER}")
        return found

    def summary(self) -> str:
        """The split in a line."""
        if not self.class_names:
            return f"{self.name}: {self.problems[0]}"
        some = "" if self.looked == self.pairs else f", {self.looked} of them looked at"
        return (
            f"{self.name}: {self.pairs} pairs{some}, {len(self.class_names)} classes, void {self.void_share:.1f} %, "
            f"{len(self.problems)} problems"
        )

    def as_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {**self._asdict(), "void_share": self.void_share, "notes": self.notes}


def open_section(
    given: Any,
    root: str | Path | None = None,
    overrides: Sequence[str] = (),
    size: Sequence[int] | None = None,
    crops: bool = False,
) -> dict[str, Any]:
    """The section ``data`` of a config.

    Args:
        given: what ``segkd.train`` takes for data; or a config file or run folder, whose data it is; or a data set's
            object, which is the split "train".
        root: root folder of the data set.
        overrides: ``data.key=value`` each.
        size: (H, W) of the training crops.
        crops: they are made, so that their size must be right: where nothing says it, it is the first image's.
    """
    if isinstance(given, str | Path) and _is_config(given):
        section = load_config(given, root=None if root is None else str(root), size=size)["data"]
    else:
        given = {"train": given} if isinstance(given, SegmentationDataset) else given
        section = data_source(given, root, size or (None if crops else ANY_SIZE), overrides).section
    cfg = {"data": dict(section)}
    for text in overrides:
        if not text.startswith("data."):
            raise UserError(f"--set {text}: of a data set there are only keys of data, such as data.dataset.root")
        override(cfg, text)
    Data.known(cfg["data"])
    return cfg["data"]


def _is_config(given: str | Path) -> bool:
    """Whether a file or folder holds all of a run, and not a data set's part, or a data set, alone."""
    path = Path(given)
    if str(given) in DATASETS.names() or not (path.is_dir() or path.suffix == ".py"):
        return False
    if path.is_dir():
        return (path / CONFIG).is_file()
    return path.is_file() and "model" in read_variables(path)


def open_splits(
    section: Mapping[str, Any], splits: Sequence[str] | None = None, check: bool = True
) -> Iterator[tuple[str, SegmentationDataset | UserError]]:
    """The data sets of a section by split, opened one by one; or what is wrong with one as a whole.

    Args:
        splits: their names; by default all of the section.
        check: see ``segkd.datasets.files.FilePairs``.
    """
    for split in splits or [name for name in SPLITS if section.get(name) is not None]:
        own = {"split": split} if section.get(split) is None else section[split]
        if not isinstance(own, Mapping):
            yield split, own
            continue
        arguments = {**section["dataset"], **own}
        if not check and "check" in inspect.signature(DATASETS.resolve(arguments.get("type"))).parameters:
            arguments["check"] = False
        try:
            yield split, DATASETS.build(arguments)
        except UserError as error:
            yield split, error


def open_whole(section: Mapping[str, Any]) -> Iterator[tuple[str | None, SegmentationDataset | UserError]]:
    """As ``open_splits``, but data whose validation would be drawn as a whole, under None."""
    dataset = section["dataset"]
    kind = DATASETS.resolve(dataset["type"]) if dataset.get("type") is not None else None
    named = any(not isinstance(section.get(split), Mapping) for split in SPLITS if section.get(split) is not None)
    if named or kind is None or not hasattr(kind, "own_splits") or kind.own_splits(dataset):
        yield from open_splits(section)
        return
    yield None, DATASETS.build({key: value for key, value in dataset.items() if key not in ("val", "group")})


def verify_splits(
    section: Mapping[str, Any],
    splits: Sequence[str] | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> list[Split]:
    """Look at every file of a data set's splits, in one pass that ``progress`` follows.

    Args:
        section: see ``open_section``.
        splits: their names; by default all of the section.
        limit: pairs of each split to look at, evenly spread; by default all.

    Raises:
        UserError: none of the splits can be opened.
    """
    opened = list(open_splits(section, splits, check=False))
    if opened and all(isinstance(one, UserError) for _, one in opened):
        raise UserError(str(opened[0][1]))
    looks = {name: spread(len(one), limit) for name, one in opened if not isinstance(one, UserError)}
    total, before = sum(map(len, looks.values())), 0
    found: list[Split] = []
    told: set[str] = set()  # splits of one folder share the files without partner
    for name, one in opened:
        if isinstance(one, UserError):
            found.append(Split(name, 0, 0, (), (), 0, [str(one)]))
            continue
        seen = examine(one, looks[name], partial(_follow, progress, before, total))
        before += len(looks[name])
        problems = [problem for problem in seen.problems if problem not in told]
        told.update(problems)
        pixels, names = seen.pixels.tolist(), list(one.class_names)
        split = Split(name, len(one), len(looks[name]), names, pixels[: len(names)], pixels[IGNORE], problems)
        found.append(split._replace(published=_published(section, name, one)))
    return found


def _published(section: Mapping[str, Any], name: str, dataset: SegmentationDataset) -> int | None:
    """How many pairs the owners say that a split has."""
    own = section.get(name)
    return dataset.counts.get(own.get("split", name) if isinstance(own, Mapping) else name)


def _follow(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress("verifying", before + done, total)


def spread(length: int, limit: int | None) -> Sequence[int]:
    """``limit`` of ``length`` indices at equal distances; all of them without a limit."""
    looks = length if limit is None else min(limit, length)
    return [k * length // looks for k in range(looks)]
