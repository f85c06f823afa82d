"""Where the images and labels of each split of one's own data are, from what a user gave; and which are pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from segkd.datasets.class_lists import ClassEntry
from segkd.datasets.files import IMAGE_SUFFIXES, LABEL_SUFFIXES, walk_files
from segkd.datasets.formats import detect, find_format
from segkd.datasets.layouts import Layout, Source, find_layout
from segkd.datasets.lists import Entry, SplitList, locate, pick, read_lists
from segkd.datasets.pairing import Files, apart, find_files, is_glob, match
from segkd.errors import UserError

SPLITS = ("train", "val", "test")


class Place(NamedTuple):
    """The files of a split: folders, and the list that chooses among them or names them itself."""

    source: Source
    listed: SplitList | None
    root: Path | None


class Chosen(NamedTuple):
    """The splits on disk that are read for a split, and whether validation is drawn from them."""

    keys: list[str | None]
    drawn: bool


class Places(NamedTuple):
    """All splits of a data set on disk (None: all files, of no split).

    source: how messages call it.
    classes: the file that names the classes, if one lies where such files lie.
    whole: one folder was named, whose splits are all known.
    """

    all: dict[str | None, Place]
    source: str
    classes: Path | None
    whole: bool

    def choose(self, split: str | None, share_given: bool) -> Chosen:
        """What is read for a split; validation is drawn from the training split where there is none of its own."""
        if split is None:
            return Chosen(list(self.all), False)
        if split not in SPLITS:
            raise UserError(f"{self.source}: split must be 'train' or 'val' (or 'test'), got {split!r}")
        if share_given and "val" in self.all:
            raise UserError(f"{self.source} has a validation split of its own; leave out val, the share to draw")
        if split in self.all and (split != "train" or "val" in self.all):
            return Chosen([split], False)
        pool: str | None = "train" if "train" in self.all else None
        if split == "test" or pool not in self.all:
            has = ", ".join(str(one) for one in self.all if one) or "none of its own"
            raise UserError(f"{self.source} has no split {split!r} (there is: {has})")
        return Chosen([pool], True)


class Spot(NamedTuple):
    """A place whose labels' format is known.

    labels: the folder, glob or annotation file of the labels.
    """

    place: Place
    format: str
    labels: Path

    def files(self, entries: Sequence[ClassEntry]) -> Files:
        """The label files by their names."""
        if self.place.listed is not None and self.place.listed.entries[0].label is not None:
            return {entry.image: _located(entry, entry.label or "", self.place) for entry in self.place.listed.entries}
        if is_glob(self.labels):
            suffixes = {"labelme": (".json",), "yolo": (".txt",)}.get(self.format, LABEL_SUFFIXES)
            return find_files(self.labels, suffixes, "labels")
        return find_format(self.format).find(self.labels, [entry.name for entry in entries])


class Found(NamedTuple):
    """Images and labels by their common names, and what the labels' side calls them."""

    images: Files
    labels: Files
    keys: dict[str, str]


def find_places(
    root: str | Path | None, images: str | Path | None, labels: str | Path | None, lists: str | Path | None
) -> Places:
    """The splits of what a user gave.

    Raises:
        UserError: nothing given, a folder or file that does not exist, a folder of no known layout.
    """
    folder = None if root is None else Path(root).expanduser()
    if folder is not None and not folder.is_dir():
        what = "is a file; name the folder that it lies in" if folder.is_file() else "root folder not found"
        raise UserError(f"own data: {folder} {what}" if folder.is_file() else f"own data: {what}: {folder}")
    if folder is None and images is None and lists is None:
        raise UserError("own data: name the folder that holds it (root), or images and labels, or lists")
    own = Source(_below(folder, images), _below(folder, labels))
    if folder is not None and images is None:
        layout = find_layout(folder)
        if own.labels is not None:
            layout = layout._replace(sources={k: v._replace(labels=own.labels) for k, v in layout.sources.items()})
    else:
        layout = Layout({None: own}, None, None)
    chosen = layout.lists if lists is None else _below(folder, lists)
    source = (
        f"data set of {images} and {labels}"
        if images is not None and labels is not None
        else f"data set of {root or images or lists}"
    )
    if chosen is not None:
        if not chosen.exists():
            raise UserError(f"{source}: list not found: {chosen}")
        if None not in layout.sources:
            raise UserError(f"{source} has splits by folders and by {chosen}: give images and labels in place of root")
        places = {split: Place(layout.sources[None], listed, folder) for split, listed in read_lists(chosen).items()}
    else:
        places = {split: Place(own, None, folder) for split, own in layout.sources.items()}
    order = sorted(places, key=lambda split: SPLITS.index(split) if split in SPLITS else -1)
    return Places({split: places[split] for split in order}, source, layout.classes, folder is not None)


def _below(root: Path | None, given: str | Path | None) -> Path | None:
    """A path as given, or below the root where it is there alone."""
    if given is None:
        return None
    path = Path(given).expanduser()
    return root / path if root is not None and not path.exists() and not path.is_absolute() else path


def open_spot(place: Place, format: str | None, names: Sequence[str]) -> Spot:
    """The place with its labels' format, as said or as found.

    Raises:
        UserError: an unknown format, or none that is found.
    """
    labels, listed = place.source.labels, place.listed
    if format is not None:
        find_format(format)
    if listed is not None and listed.entries[0].label is not None:
        first = _located(listed.entries[0], listed.entries[0].label, place)
        kind = {".json": "labelme", ".txt": "yolo"}.get(first.suffix.lower(), "masks")
        return Spot(place, format or kind, first.parent)
    if labels is None:
        what = f"{listed.path} names no labels: " if listed is not None else ""
        raise UserError(f"{what}labels are missing: give the folder or file that holds them (labels, --labels)")
    if is_glob(labels):
        return Spot(place, format or {".json": "labelme", ".txt": "yolo"}.get(labels.suffix.lower(), "masks"), labels)
    if format in ("masks", "binary", "labelme", "yolo") and labels.is_dir():
        return Spot(place, format, labels)
    if labels == place.source.images and format is None:
        return Spot(place, _of_both(labels, names), labels)
    found, labels = detect(labels, names)
    if format is not None and found != format:
        raise UserError(f"{labels} holds labels of the format {found}, not {format}")
    return Spot(place, found, labels)


def _of_both(folder: Path, names: Sequence[str]) -> str:
    """The format of the labels in a folder that holds the images, too."""
    kinds = {path.suffix.lower() for path in walk_files(folder, (*IMAGE_SUFFIXES, ".json", ".txt"))}
    images = kinds & set(IMAGE_SUFFIXES)
    if ".png" in images and len(images) > 1:  # masks beside photographs
        return "masks"
    return "labelme" if ".json" in kinds else "yolo" if ".txt" in kinds and len(images) == 1 else "masks"


def gather(spots: Mapping[str | None, Spot], entries: Sequence[ClassEntry], suffix: str | None) -> Found:
    """The images and labels of some places; of several, names begin with the split's."""
    both = Found({}, {}, {})
    for split, spot in spots.items():
        prefix = f"{split}/" if len(spots) > 1 and split else ""
        own = _of_list(spot, entries, suffix) if spot.place.listed is not None else _of_folders(spot, entries, suffix)
        both.images.update({prefix + name: file for name, file in own.images.items()})
        both.labels.update({prefix + name: file for name, file in own.labels.items()})
        both.keys.update({prefix + name: key for name, key in own.keys.items()})
    return both


def _of_folders(spot: Spot, entries: Sequence[ClassEntry], suffix: str | None) -> Found:
    source = spot.place.source
    if source.images is None:
        raise UserError("images are missing: give the folder that holds them (images, --images)")
    if spot.labels == source.images and spot.format == "masks":
        images, labels = apart(source.images, suffix)
        keys = {name: name for name in labels}
    else:
        images, labels = find_files(source.images, IMAGE_SUFFIXES, "images"), spot.files(entries)
        images, keys = match(images, labels, suffix)
    _check_any(images, keys, spot, suffix)
    return Found(images, {name: labels[key] for name, key in keys.items()}, keys)


def _check_any(images: Files, keys: Mapping[str, str], spot: Spot, suffix: str | None) -> None:
    """A UserError where no image at all has a label of its name."""
    if images and keys and not images.keys() & keys.keys():
        way = "" if suffix else "; say by suffix='_mask' what the labels' names have after the images'"
        raise UserError(
            f"none of the {len(images)} images in {spot.place.source.images} has a label of its name in {spot.labels}: "
            f"images are called like {min(images)!r}, labels like {min(keys.values())!r}{way}"
        )


def _of_list(spot: Spot, entries: Sequence[ClassEntry], suffix: str | None) -> Found:
    """The pairs that a list names, or those of folders that it chooses."""
    listed = spot.place.listed
    assert listed is not None
    if listed.entries[0].label is None:
        whole = _of_folders(spot._replace(place=spot.place._replace(listed=None)), entries, suffix)
        names = [pick(entry, whole.images, listed.path) for entry in listed.entries]
        kept = [name for name in names if name in whole.labels]
        images, labels = (
            {name: side[name] for name in own} for side, own in ((whole.images, names), (whole.labels, kept))
        )
        return Found(images, labels, {name: whole.keys[name] for name in kept})
    files, images, labels = spot.files(entries), Files(), Files()
    for entry in listed.entries:
        name = "/".join(part for part in Path(entry.image).with_suffix("").parts if part not in ("/", ".."))
        if name in images:
            raise UserError(f"{listed.path}, line {entry.line}: two images of the name {name!r}; keep one")
        images[name], labels[name] = _located(entry, entry.image, spot.place), files[entry.image]
    return Found(images, labels, {name: name for name in labels})


def _located(entry: Entry, text: str, place: Place) -> Path:
    listed = place.listed
    assert listed is not None
    folders = [listed.path.parent, place.root, place.source.images, place.source.labels, Path()]
    found = locate(text, [folder for folder in folders if folder is not None])
    if found is None:
        raise UserError(f"{listed.path}, line {entry.line}: no such file: {text} (beside the list, or below the root)")
    return found
