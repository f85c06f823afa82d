"""A data set's labels, whatever they are stored as, as PNGs of class ids, with a list that makes a folder of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segkd.datasets.base import IGNORE, Array
from segkd.datasets.files import FilePairs, size_problem
from segkd.datasets.image_headers import image_size
from segkd.datasets.label_files import read_label
from segkd.datasets.layouts import PAIRS
from segkd.datasets.lists import write_pairs
from segkd.errors import UserError
from segkd.files import replacing
from segkd.report.pictures import grey_png
from segkd.training.configfile import textual
from segkd.workbench import Progress, silent
from segkd.workbench.datasets import open_whole
from segkd.workbench.resuming import changed, write_classes, write_said

LABELS, CLASSES, ABOUT = "labels", "classes.txt", "convert.json"


class Converted(NamedTuple):
    """What was written.

    folder: of the labels, the class names and the list of pairs.
    images: how many, by split; None is of no split.
    class_names: of the ids.
    pixels: of each class.
    void: pixels of 255.
    """

    folder: Path
    images: dict[str | None, int]
    class_names: list[str]
    pixels: list[int]
    void: int

    @property
    def shares(self) -> list[float]:
        """The share of each class in all pixels, in percent."""
        total = max(1, sum(self.pixels) + self.void)
        return [100 * count / total for count in self.pixels]


def convert_labels(
    section: Mapping[str, Any], out: str | Path, *, force: bool = False, progress: Progress = silent
) -> Converted:
    """Write the labels of all splits as 8-bit PNGs of class ids, 255 where they are void; images stay where they are.

    Stopped and called again, it goes on where it was; the list of pairs comes last, so that a folder that can be
    trained on is whole.

    Args:
        section: ``data`` of a config.
        out: folder: ``labels/NAME.png``, ``classes.txt`` and ``pairs.csv``, on which ``--data FOLDER`` trains.
        force: write anew what is there; else a finished folder, or one of other data, is refused.
        progress: told of the labels.

    Raises:
        UserError: a label that cannot be read, or is not of its image's size; data not made of files, or lying there.
    """
    folder = Path(out)
    opened = dict(open_whole(section))
    sets = {split: _of_files(dataset, split) for split, dataset in opened.items()}
    names = list(next(iter(sets.values())).class_names)
    _spare_the_data(sets, section["dataset"].get("root"), folder)
    _begin(folder, {"dataset": textual(dict(section["dataset"])), "classes": names}, force)
    pixels, total = np.zeros(IGNORE + 1, np.int64), sum(map(len, sets.values()))
    rows = []
    for done, (split, index, target) in enumerate(_targets(sets, folder)):
        progress("converting labels", done, total)
        pair = sets[split].pairs[index]
        if force or not target.is_file():
            _write(target, _checked(sets[split], index))
        pixels += np.bincount(read_label(target).ravel(), minlength=IGNORE + 1)
        rows.append((os.path.relpath(pair.image, folder), os.path.relpath(target, folder), split))
    write_pairs(folder / PAIRS, rows)
    return Converted(
        folder=folder,
        images={split: len(dataset) for split, dataset in sets.items()},
        class_names=names,
        pixels=pixels[: len(names)].tolist(),
        void=int(pixels[IGNORE]),
    )


def _of_files(dataset: Any, split: str | None) -> FilePairs:
    if isinstance(dataset, UserError):
        raise UserError(f"{split}: {dataset}" if split else str(dataset))
    if not isinstance(dataset, FilePairs):
        raise UserError(f"{type(dataset).__name__} is not made of files: there is nothing to convert")
    return dataset


def _targets(sets: Mapping[str | None, FilePairs], folder: Path) -> Iterator[tuple[str | None, int, Path]]:
    """Split, index and label file to write of every pair."""
    for split, dataset in sets.items():
        for index in range(len(dataset)):
            name = f"{dataset.name_of(index)}.png"
            yield split, index, folder / LABELS / (f"{split}/{name}" if split else name)


def _spare_the_data(sets: Mapping[str | None, FilePairs], root: Any, folder: Path) -> None:
    """Refuse a folder in which the data's own files, or its list of classes, would be written over."""
    places = {target.resolve() for _, _, target in _targets(sets, folder)}
    own = (path for dataset in sets.values() for k in range(len(dataset)) for path in dataset.files_of(k))
    same = root is not None and Path(root).expanduser().resolve() == folder.resolve()
    if same or any(path.resolve() in places for path in own):
        raise UserError(f"{folder} holds the data itself, which would be written over: name another folder")


def _begin(folder: Path, said: Mapping[str, Any], force: bool) -> None:
    """Write what is about to be done; a folder of something else, or of a finished conversion, is refused."""
    about = folder / ABOUT
    if not force:
        if (folder / PAIRS).exists():
            raise UserError(f"{folder} holds converted labels already: train on it, or write them anew by --force")
        if about.is_file():
            if (other := changed(about, said)) is not None:
                raise UserError(f"{folder} was begun with another {other[0]}: name another folder, or --force")
        elif folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty and holds no conversion: name another folder, or --force")
    (folder / PAIRS).unlink(missing_ok=True)
    write_said(about, said)
    write_classes(folder / CLASSES, said["classes"])


def _checked(dataset: FilePairs, index: int) -> Array:
    """A label, if it is of its image's size."""
    pair, label = dataset.pairs[index], dataset.label_of(index)
    size = image_size(pair.image, dataset.upright)
    if size != label.shape:
        raise UserError(size_problem(pair, size, label.shape))
    return label


def _write(path: Path, label: Array) -> None:
    data = grey_png(label)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
