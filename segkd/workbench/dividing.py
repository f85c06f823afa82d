"""A data set's images divided into splits, classes in equal shares, sequences whole; written as list files."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segkd.datasets import DATASETS, SegmentationDataset
from segkd.datasets.base import IGNORE
from segkd.datasets.layouts import find_layout
from segkd.datasets.lists import write_list
from segkd.datasets.splitting import PREFIX, Counts, grouped, stratify
from segkd.errors import UserError
from segkd.workbench import Progress, silent
from segkd.workbench.making import SPLITS

LISTS = "splits"  # the folder of the lists, within that of the data


class Divided(NamedTuple):
    """How images were divided.

    folder: of the lists.
    images: split -> names.
    groups: how many sequences, if there are fewer than images.
    class_names: of the data set.
    pixels: split -> pixels of each class.
    note: what should be known, or "".
    """

    folder: Path
    images: dict[str, list[str]]
    groups: int
    class_names: list[str]
    pixels: dict[str, list[int]]
    note: str

    def shares(self, split: str) -> list[float]:
        """The share of each class in a split's pixels that have one, in percent; NaN without any."""
        counts = np.array(self.pixels[split], dtype=np.float64)
        return [float(share) for share in 100 * counts / (counts.sum() or np.nan)]

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**self._asdict(), "folder": str(self.folder)}


def divide(
    section: Mapping[str, Any],
    *,
    val: float = 0.2,
    test: float = 0.0,
    group: str | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Divided:
    """Write ``train.txt``, ``val.txt`` (and ``test.txt``): names of images, drawn so that classes have equal shares.

    Args:
        section: ``data`` of a config, of one's own data without splits.
        val, test: shares of all images.
        group: what stays together: see ``segkd.datasets.splitting.group_of``.
        seed: of the order among equals.
        out: folder of the lists; by default ``splits`` in the data's folder, where ``--data`` finds them.
        force: write over lists that are there.
        progress: told of the labels.

    Raises:
        UserError: shares of 1 or more, data with splits of its own, lists that are there, too few images.
    """
    shares = _shares(val, test)
    dataset_config = dict(section["dataset"])
    root = dataset_config.get("root")
    if out is None and root is None:
        raise UserError("where shall the lists go? Name a folder by --out")
    folder = Path(out) if out is not None else Path(root or "").expanduser() / LISTS
    there = [file for file in (folder / f"{split}.txt" for split in SPLITS) if file.exists()]
    if there and not force:
        raise UserError(f"{there[0]} is there already: write over it by --force, or name another folder by --out")
    dataset = _opened(dataset_config, force)
    names = [dataset.name_of(k) for k in range(len(dataset))]
    counts = _counted(dataset, progress)
    groups = list(grouped(names, group).values())
    if len(groups) < len(shares):
        what = "image" if len(groups) == len(names) else "sequence"
        raise UserError(f"{len(groups)} {what}{'s' * (len(groups) > 1)} cannot be divided into {', '.join(shares)}")
    found = stratify(counts, groups, shares, seed)
    if empty := [split for split, own in found.items() if not own]:
        raise UserError(f"{len(names)} images are too few for {empty[0]}: {100 * shares[empty[0]]:g} % is not one")
    images = {split: [names[k] for k in own] for split, own in found.items()}
    for file in there:  # one that is not written again would be of another division
        file.unlink()
    for split, own in images.items():
        write_list(folder / f"{split}.txt", (f"{name}\t" if len(name.split()) > 1 else name for name in own))
    return Divided(
        folder=folder,
        images=images,
        groups=len(groups),
        class_names=list(dataset.class_names),
        pixels={split: counts[own].sum(0).tolist() for split, own in found.items()},
        note=_note(names, group),
    )


def _shares(val: float, test: float) -> dict[str, float]:
    if not 0 < val < 1 or not 0 <= test < 1 or val + test >= 1:
        raise UserError(f"val={val:g} and test={test:g}: shares between 0 and 1, which leave something to train on")
    shares = {"train": 1 - val - test, "val": val, "test": test}
    return {split: share for split, share in shares.items() if share}


def _opened(given: dict[str, Any], force: bool) -> SegmentationDataset:
    """The data set as a whole; lists in its folder, which would be its splits, are not looked at with ``force``."""
    kind = DATASETS.resolve(given["type"])
    if "lists" not in inspect.signature(kind).parameters:
        raise UserError(f"{kind.__name__} has splits of its own; what is divided is data of your own (--data DIR)")
    given.pop("val", None), given.pop("group", None)
    if force and given.get("root") is not None and given.get("lists") is None and given.get("images") is None:
        layout = find_layout(Path(given["root"]).expanduser())
        source = layout.sources.get(None)
        if source is not None and source.images is not None and source.labels is not None:
            given.setdefault("class_names", str(layout.classes) if layout.classes is not None else None)
            given.update(images=str(source.images), labels=str(source.labels))
    if own := kind.own_splits(given):
        raise UserError(f"this data has splits of its own already: {', '.join(own)}; --force divides it anew")
    dataset: SegmentationDataset = DATASETS.build(given)
    return dataset


def _counted(dataset: SegmentationDataset, progress: Progress) -> Counts:
    """(images, classes) pixels."""
    rows = []
    for k in range(len(dataset)):
        progress("counting labels", k, len(dataset))
        rows.append(np.bincount(dataset.label_of(k).ravel(), minlength=IGNORE + 1)[: dataset.num_classes])
    return np.array(rows, dtype=np.int64).reshape(len(rows), dataset.num_classes)


def _note(names: list[str], group: str | None) -> str:
    """That images look like frames of a few videos, which must not be in two splits."""
    sequences = grouped(names, PREFIX)
    if group is not None or len(sequences) > len(names) / 3 or len(sequences) < 2:
        return ""
    return (
        f"the names look like frames of {len(sequences)} sequences ({', '.join(sorted(sequences)[:3])}, ...): frames "
        "of one video in two splits make scores too good; --group prefix keeps each sequence in one"
    )
