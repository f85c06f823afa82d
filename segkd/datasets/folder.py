"""A user's own data: images with labels, as a folder, by folders, globs or lists, in the usual formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkd import arguments
from segkd.datasets.base import DATASETS, RGB
from segkd.datasets.class_lists import ClassEntry, read_class_list
from segkd.datasets.files import FilePairs, Pair
from segkd.datasets.formats import find_format
from segkd.datasets.image_files import check_channels
from segkd.datasets.label_files import read_label
from segkd.datasets.legend import make_legend
from segkd.datasets.places import Places, Spot, find_places, gather, open_spot
from segkd.datasets.splitting import draw
from segkd.errors import UserError

VAL = 0.2  # of the pairs, for validation, where nothing else is said
LOOKS = 8  # masks that are looked at before a training, for their values


@DATASETS.register("folder")
class FolderDataset(FilePairs):
    """Images with labels of one's own: ``root`` alone where names tell what is what, else ``images`` and ``labels``.

    What a label may be: see datasets/folder/README.md. An id, a colour or a name that is no class is an error.

    Args:
        images: a folder (those below it count), or a glob.
        labels: the same, or an annotation file of all images.
        class_names: one name per class, in id order; or a file. Left out, the one beside the data, or what annotations
            say.
        palette: one (R, G, B) per class; else the class file's, or made up.
        ignore: the id, name or "#RRGGBB" colour that means void, or a list; 255 does, too, unless it is a class.
        label_map: stored id or name -> class, or 255; ids that it lacks are an error (``{0: 0, 255: 1}``).
        check: see ``FilePairs``.
        upright: turn photographs as their orientation tags say, as their labels were drawn.
        white: the value that is white in images of more than 8 bits, such as 4095 of a 12-bit sensor.
        channels: bands of each image, the first three RGB.
        split: "train", "val" (drawn where there is none) or "test"; else all pairs.
        val: share of the pairs to draw for validation (0.2), at least one.
        seed: of that draw.
        root: a folder that holds all of it.
        lists: a folder of train.txt, val.txt (test.txt), a list, or a CSV of image, label, split.
        suffix: what labels' names have after the images', such as "_mask".
        format: "masks", "binary", "coco", "labelme", "yolo" or "cvat", where it is not clear.
        background: the class of the pixels that no shape covers, or "void".
        group: what stays in one split when val is drawn: "prefix", "folder", or a regular expression.
    """

    splits = ("train", "val", "test")

    def __init__(
        self,
        images: str | Path | None = None,
        labels: str | Path | None = None,
        class_names: Sequence[str] | str | Path | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        ignore: Any = None,
        label_map: Mapping[Any, Any] | None = None,
        check: bool = True,
        upright: bool = True,
        white: float | None = None,
        split: str | None = None,
        val: float | None = None,
        seed: int = 0,
        root: str | Path | None = None,
        lists: str | Path | None = None,
        suffix: str | None = None,
        format: str | None = None,
        background: str | None = None,
        group: str | None = None,
        channels: int = RGB,
    ) -> None:
        channels = check_channels(channels, "a folder data set")
        if white is not None:
            white = arguments.number(white, "white", "a folder data set", above=0)
        places = find_places(root, images, labels, lists)
        chosen = places.choose(split, val is not None)
        listed = None if class_names is None else read_class_list(class_names)
        if listed is None and places.classes is not None:
            listed = read_class_list(places.classes)
        names = [entry.name for entry in listed or ()]
        spots = {key: open_spot(place, format, names) for key, place in places.all.items()}
        kinds = {spot.format for spot in spots.values()}
        if len(kinds) > 1:
            raise UserError(
                f"{places.source}: labels of several formats, {', '.join(sorted(kinds))}: name one by format="
            )
        kind = find_format(next(iter(kinds)))
        if listed is None:
            listed = self._told(spots, places)
        _check_map(label_map, kind.shapes)
        legend = make_legend(listed, palette, ignore, label_map, background, kind.shapes)
        self.class_names, self.palette = legend.names, legend.palette
        found = gather({key: spots[key] for key in chosen.keys}, listed, suffix)
        first = spots[chosen.keys[0]]
        reader = kind.reader(legend, first.labels, listed, upright)
        super().__init__(found.images, found.labels, reader, places.source, check, upright, white, channels)
        self.pairs = [Pair(*pair[:3], found.keys[pair.name]) for pair in self.pairs]
        ids_alone = not kind.shapes and not legend.colours and label_map is None and ignore is None
        if check and ids_alone and len(legend.names) <= 2:
            self._refuse_black_and_white()
        if chosen.drawn:
            picked = draw([p.name for p in self.pairs], VAL if val is None else val, seed, group, places.source)
            self.pairs = [pair for k, pair in enumerate(self.pairs) if (k in picked) == (split == "val")]

    @classmethod
    def splits_of(cls, given: Mapping[str, Any]) -> tuple[str, ...]:
        """The splits that the data set of some arguments has: train and val, and test if there is one of its own."""
        places = find_places(given.get("root"), given.get("images"), given.get("labels"), given.get("lists"))
        return ("train", "val", "test") if "test" in places.all else ("train", "val")

    @classmethod
    def own_splits(cls, given: Mapping[str, Any]) -> tuple[str, ...]:
        """The splits that are told apart on disk, so that validation need not be drawn."""
        places = find_places(given.get("root"), given.get("images"), given.get("labels"), given.get("lists"))
        return tuple(split for split in places.all if split is not None)

    def _told(self, spots: Mapping[str | None, Spot], places: Places) -> list[ClassEntry]:
        """The classes that the annotations themselves name, those of the training split first."""
        found: dict[str, ClassEntry] = {}
        for spot in spots.values():
            kind = find_format(spot.format)
            if kind.classes is None or (spot.format == "labelme" and not places.whole):
                masks = spot.format == "masks" and spot.labels != spot.place.source.images
                seen = f"; {spot.labels} holds {_seen(spot)}" if masks else ""
                raise UserError(
                    f"{places.source}: what are the classes called? Name them in the order of their ids, by a file or "
                    f"a list (class_names, --classes){seen}"
                )
            for entry in kind.classes(spot.labels, spot.files(())):
                found.setdefault(entry.name, entry)
        return list(found.values())

    def _refuse_black_and_white(self) -> None:
        """A UserError for masks that hold 0 and 255 alone, of which 255 would be void."""
        step = max(1, len(self.pairs) // LOOKS)
        values: set[int] = set()
        for pair in self.pairs[::step]:
            values |= set(np.unique(read_label(pair.label)).tolist())
            if values - {0, 255}:
                return
        if values == {0, 255}:
            said = "name two classes, and say" if len(self.class_names) == 1 else "say"
            raise UserError(
                f"{self.source}: the masks hold 0 and 255 alone. If 255 is a class, {said} label_map={{0: 0, 255: 1}} "
                "(--label-map 0:0,255:1); if it is void, ignore=255"
            )


def _check_map(label_map: Mapping[Any, Any] | None, shapes: bool) -> None:
    """A UserError for a label map whose words mean nothing to these labels."""
    for key in label_map or {}:
        if str(key).isdecimal() == shapes:
            what = "names" if shapes else "ids"
            raise UserError(
                f"label_map must map {'names' if shapes else 'integers'} here, as the labels hold {what}; got {key!r}"
            )


def _seen(spot: Spot) -> str:
    """The ids in some masks, for a message."""
    files = list(spot.files(()).values())
    values: set[int] = set()
    for file in files[:: max(1, len(files) // LOOKS)]:
        try:
            values |= set(np.unique(read_label(file)).tolist())
        except UserError:
            return "masks in colours, which a labelmap.txt (NAME:R,G,B:: on each line) would name"
    ids = sorted(values)
    return "the ids " + ", ".join(map(str, ids[:20])) + (", ..." if len(ids) > 20 else "")
