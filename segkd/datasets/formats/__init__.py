"""How labels of one's own can be stored: a small table of formats, and which one a file or folder is in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from segkd.datasets.class_lists import ClassEntry
from segkd.datasets.files import IMAGE_SUFFIXES, LABEL_SUFFIXES, LabelReader, walk_files
from segkd.datasets.formats.binary import BinaryReader, find_binary, is_binary
from segkd.datasets.formats.coco import CocoReader, coco_classes, is_coco, read_coco, whole_annotations
from segkd.datasets.formats.cvat import CvatReader, cvat_classes, read_cvat
from segkd.datasets.formats.labelme import LabelMeReader, labelme_classes
from segkd.datasets.formats.masks import MaskReader
from segkd.datasets.formats.yolo import YoloReader
from segkd.datasets.label_files import WHY_NOT_JPEG
from segkd.datasets.legend import Legend
from segkd.errors import UserError, nearest

Files = Mapping[str, Path]  # the labels' own names -> files
Names = Sequence[str]  # of the listed classes
Entries = Sequence[ClassEntry]


class Format(NamedTuple):
    """One way to store labels.

    find: (file or folder, listed classes) -> the label files by their names.
    classes: (file or folder, those files) -> the classes that the labels name themselves; None where they don't.
    reader: (legend, file or folder, listed classes, upright) -> what reads them.
    shapes: what no label covers is background.
    """

    find: Callable[[Path, Names], dict[str, Path]]
    classes: Callable[[Path, Files], list[ClassEntry]] | None
    reader: Callable[[Legend, Path, Entries, bool], LabelReader]
    shapes: bool


def _below(suffixes: Sequence[str]) -> Callable[[Path, Names], dict[str, Path]]:
    return lambda place, _: by_name(place, suffixes)


def _inside(read: Callable[[Path], tuple[Mapping[str, object], object]]) -> Callable[[Path, Names], dict[str, Path]]:
    return lambda place, _: dict.fromkeys(read(place)[0], place)


def _yolo(legend: Legend, _place: Path, listed: Entries, upright: bool) -> LabelReader:
    names = {k if entry.stored is None else entry.stored: entry.name for k, entry in enumerate(listed)}
    return YoloReader(legend, names, upright)


def _find_binary(place: Path, names: Names) -> dict[str, Path]:
    return {name: next(iter(own.values())) for name, own in find_binary(place, names).items()}


def _binary(legend: Legend, place: Path, listed: Entries, _upright: bool) -> LabelReader:
    return BinaryReader(legend, find_binary(place, [entry.name for entry in listed]))


FORMATS: dict[str, Format] = {
    "masks": Format(_below(LABEL_SUFFIXES), None, lambda legend, *_: MaskReader(legend), False),
    "binary": Format(_find_binary, None, _binary, True),
    "coco": Format(
        _inside(read_coco), lambda place, _: coco_classes(place), lambda legend, *_: CocoReader(legend), True
    ),
    "labelme": Format(
        _below((".json",)),
        lambda _, files: labelme_classes(files.values()),
        lambda legend, *_: LabelMeReader(legend),
        True,
    ),
    "yolo": Format(_below((".txt",)), None, _yolo, True),
    "cvat": Format(
        _inside(read_cvat), lambda place, _: cvat_classes(place), lambda legend, *_: CvatReader(legend), True
    ),
}
LISTS = ("classes.txt", "labelmap.txt", "label_map.txt", "labels.txt", "classes.json", "label_classes.json")


def by_name(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The files below a folder by their paths in it without suffix; two of one name are a UserError."""
    found: dict[str, Path] = {}
    start = len(os.path.join(folder, ""))
    for file in walk_files(folder, suffixes):
        name = os.path.splitext(str(file)[start:])[0].replace(os.sep, "/")
        if file.name.lower() in LISTS:
            continue
        if name in found:
            raise UserError(f"two files for one name: {found[name]} and {file.name}; keep one")
        found[name] = file
    return found


def find_format(name: str) -> Format:
    """A format by its name."""
    if name not in FORMATS:
        raise UserError(f"unknown label format {name!r}; {nearest(name, FORMATS)}")
    return FORMATS[name]


def detect(place: Path, names: Names = ()) -> tuple[str, Path]:
    """The format of a file or folder of labels, and the file itself where one holds the labels of many images.

    Args:
        names: the classes, as far as they are listed: folders that are called so hold binary masks.

    Raises:
        UserError: files of no known format, JPEGs, or several annotation files.
    """
    if place.is_file():
        return _of_file(place)
    if not place.is_dir():
        raise UserError(f"labels not found: {place}")
    if is_binary(place, names):
        return "binary", place
    kinds: dict[str, list[Path]] = {}
    for file in walk_files(place, (*IMAGE_SUFFIXES, ".json", ".txt", ".xml")):
        if file.suffix.lower() in LABEL_SUFFIXES:
            return "masks", place
        if file.name.lower() not in LISTS:
            kinds.setdefault(file.suffix.lower(), []).append(file)
    whole = whole_annotations([*kinds.get(".json", []), *kinds.get(".xml", [])])
    if len(whole) > 1:
        raise UserError(f"{place} holds several annotation files: name one, such as labels={whole[0]}")
    if whole:
        return _of_file(whole[0])
    for suffix, name in ((".json", "labelme"), (".txt", "yolo")):
        if suffix in kinds:
            return name, place
    if images := [file for suffix in IMAGE_SUFFIXES for file in kinds.get(suffix, [])]:
        raise UserError(f"{images[0]}: a label in {images[0].suffix[1:].upper()} cannot be read: {WHY_NOT_JPEG}")
    raise UserError(f"{place} holds no label: no PNG mask, COCO or LabelMe JSON, YOLO text or CVAT XML")


def _of_file(file: Path) -> tuple[str, Path]:
    suffix = file.suffix.lower()
    if suffix == ".xml":
        return "cvat", file
    if suffix == ".json" and is_coco(file):
        return "coco", file
    raise UserError(f"{file} holds no labels of many images: it must be COCO's JSON or CVAT's XML; else name a folder")
