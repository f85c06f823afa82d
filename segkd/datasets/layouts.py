"""Where images, labels, lists and classes lie in a folder of one's own, as people and labelling tools lay them out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from segkd.datasets.class_lists import find_class_list
from segkd.datasets.files import IMAGE_SUFFIXES, LABEL_SUFFIXES, is_folder
from segkd.datasets.formats.coco import whole_annotations
from segkd.datasets.lists import split_of
from segkd.errors import UserError

IMAGES = (
    "images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "photos", "pictures", "rgb", "input", "inputs",
)  # fmt: skip
LABELS = (
    "labels", "label", "masks", "mask", "segmentationclass", "segmentations", "segmentation", "annotations",
    "annotation", "ann", "anns", "gt", "gtfine", "ground_truth", "groundtruth", "targets", "target", "seg",
)  # fmt: skip
LISTS = ("splits", "lists", "imagesets/segmentation", "imagesets")
PAIRS = "pairs.csv"  # what `segkd data convert` and `segkd label` write
SHOWN = (
    "images/ and labels/ (with train/ and val/ in each, or the other way round), one folder with both, VOC's "
    "JPEGImages/ and SegmentationClass/, or images/ with COCO's JSON or CVAT's XML"
)


class Source(NamedTuple):
    """Where the images and the labels of a split are: folders, globs or annotation files; and the lists of pairs."""

    images: Path | None
    labels: Path | None


class Layout(NamedTuple):
    """What a folder holds.

    sources: split -> where its files are; None stands for all files, of no split.
    lists: where list files are, if there are any.
    classes: the file that names the classes, if there is one.
    """

    sources: dict[str | None, Source]
    lists: Path | None
    classes: Path | None


def find_layout(root: Path) -> Layout:
    """The layout of a folder.

    Raises:
        UserError: nothing in it is called as images and labels are; says what was looked for.
    """
    sources = _by_kind(root) or _by_split(root) or _together(root)
    pairs = root / PAIRS
    if pairs.is_file() and not sources:
        sources = {None: Source(None, None)}
    if not sources:
        raise UserError(f"{root} holds no images with labels that are known by their names; it may hold {SHOWN}")
    lists = pairs if pairs.is_file() else _inside(root, LISTS)
    folders = [root, *(place for source in sources.values() for place in source if place is not None)]
    beside = [folder if folder.is_dir() else folder.parent for folder in folders]
    return Layout(
        sources, lists, find_class_list(dict.fromkeys(beside + [folder.parent for folder in beside if folder != root]))
    )


def _by_kind(root: Path) -> dict[str | None, Source]:
    """images/[SPLIT] and labels/[SPLIT]."""
    images = _inside(root, IMAGES)
    if images is None:
        return {}
    labels = _inside(root, LABELS)
    splits = _splits(images)
    if not splits:
        found = labels or _annotations(root) or _annotations(images)
        if found is None and _has(images, LABEL_SUFFIXES) and _has(images, IMAGE_SUFFIXES):
            found = images
        return {} if found is None else {None: Source(images, found)}
    sources: dict[str | None, Source] = {}
    for split, folder in splits.items():
        own = _split_labels(labels, split) if labels else _annotations(root, split)
        if own is not None:
            sources[split] = Source(folder, own)
    return sources


def _split_labels(labels: Path, split: str) -> Path | None:
    """The labels of a split below the folder of all labels: a folder, or an annotation file with its name."""
    return _splits(labels).get(split) or _annotations(labels, split)


def _by_split(root: Path) -> dict[str | None, Source]:
    """SPLIT/images and SPLIT/labels, or SPLIT with both in it."""
    sources: dict[str | None, Source] = {}
    for split, folder in _splits(root).items():
        found = _by_kind(folder) or _together(folder)
        if None in found:
            sources[split] = found[None]
    return sources


def _together(folder: Path) -> dict[str | None, Source]:
    """Images and their labels in one folder."""
    named = any(path.stem.lower().rpartition("_")[2] in LABELS for path in _entries(folder, lambda _: True))
    labelled = named or _has(folder, (*LABEL_SUFFIXES, ".json", ".xml", ".txt"))
    if not labelled or not _has(folder, IMAGE_SUFFIXES):
        return {}
    whole = _annotations(folder)
    return {None: Source(folder, whole or folder)}


def _annotations(folder: Path, split: str | None = None) -> Path | None:
    """The file in a folder that holds the labels of many images, COCO's JSON or CVAT's XML, of a split if one is named.

    COCO's boxes, captions and keypoints, which lie beside its ``instances``, are none.
    """

    files = _entries(folder, lambda entry: entry.name.lower().endswith((".xml", ".json")))
    found = []
    for path in whole_annotations(files):
        words = path.stem.lower().replace("-", "_").split("_")
        if not {"captions", "person"} & {*words} and (split is None or split in map(split_of, words)):
            found.append(path)
    return found[0] if len(found) == 1 else None


def _splits(folder: Path) -> dict[str, Path]:
    found = {}
    for path in _entries(folder, is_folder):
        split = split_of(path.name)
        if split is not None:
            found[split] = path
    return found


def _inside(root: Path, names: Iterable[str]) -> Path | None:
    """The first folder below the root that has one of the names, whatever its case."""
    below = {path.name.lower(): path for path in _entries(root, is_folder)}
    for name in names:
        first, _, second = name.partition("/")
        if first in below:
            found = _inside(below[first], [second]) if second else below[first]
            if found is not None:
                return found
    return None


def _has(folder: Path, suffixes: tuple[str, ...]) -> bool:
    return bool(_entries(folder, lambda entry: entry.name.lower().endswith(suffixes)))


def _entries(folder: Path, wanted: Callable[[os.DirEntry[str]], bool]) -> list[Path]:
    """What a folder holds itself and is wanted, in order; hidden entries are left out."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and wanted(entry))
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be read ({error.strerror})") from error
