"""COCO's annotations: one JSON for many images, with polygons or run lengths of categories."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from segkd.datasets.class_lists import ClassEntry
from segkd.datasets.files import Pair
from segkd.datasets.formats.shapes import Drawing, Polygons, Runs, Shape, ShapeReader, entries_of, read_text, stamp
from segkd.errors import UserError

FEW = 50  # annotation files in a folder that may each hold many images
Content = tuple[dict[str, Drawing], list[str]]  # drawings by the images' names without suffix; names of categories


class CocoReader(ShapeReader):
    """Labels in the ``annotations`` of a COCO JSON, in the order of the file; images without any are background."""

    def drawing(self, pair: Pair) -> Drawing:
        return read_coco(pair.label)[0][pair.key]


def is_coco(path: Path) -> bool:
    """True if a JSON file holds COCO's annotations, by its first kilobytes or as a whole."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
        if b'"images"' in head or b'"annotations"' in head or b'"categories"' in head:
            return b'"shapes"' not in head
        return len(head) == 1 << 16 and b'"shapes"' not in head and b'"annotations"' in path.read_bytes()
    except OSError:
        return False


def whole_annotations(files: Sequence[Path]) -> list[Path]:
    """The files, of JSON and XML, that hold the labels of many images; of more than a few, each is of one image."""
    return [file for file in files if file.suffix.lower() == ".xml" or is_coco(file)] if len(files) <= FEW else []


def coco_classes(path: Path) -> list[ClassEntry]:
    """The categories, in the order of their ids."""
    return entries_of(read_coco(path)[1])


def read_coco(path: Path) -> Content:
    """The drawings of all images, and the categories' names."""
    return _read(*stamp(path))


@lru_cache(maxsize=4)
def _read(file: str, _time: int, _size: int) -> Content:
    path = Path(file)
    try:
        tree = json.loads(read_text(path))
        categories = {one["id"]: str(one["name"]) for one in sorted(tree["categories"], key=lambda one: one["id"])}
        images = {one["id"]: one for one in tree["images"]}
        shapes: dict[Any, list[Shape]] = {key: [] for key in images}
        used = set()
        for one in tree["annotations"]:
            shapes[one["image_id"]].append(_shape(one, categories, path))
            used.add(one["category_id"])
        drawings: dict[str, Drawing] = {}
        for key, image in images.items():
            name = Path(str(image["file_name"])).with_suffix("").as_posix()
            if name in drawings:
                raise UserError(f"{path}: two images of the name {name!r}; keep one")
            drawings[name] = Drawing((int(image["height"]), int(image["width"])), shapes[key])
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); it is damaged or cut short") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path}: no annotations as COCO has them ({what}); it must hold images, annotations and categories"
        ) from error
    return drawings, _names(tree["categories"], categories, used)


def _names(listed: list[Mapping[str, Any]], categories: Mapping[Any, str], used: set[Any]) -> list[str]:
    """The categories without those that only stand above others, as Roboflow's first does, and have no annotation."""
    above = {one.get("supercategory") for one in listed}
    return [name for key, name in categories.items() if key in used or name not in above]


def _shape(one: Mapping[str, Any], categories: Mapping[Any, str], path: Path) -> Shape:
    name = categories[one["category_id"]]
    found = one.get("segmentation")
    if isinstance(found, Mapping):
        return Shape(name, Runs(found["counts"], found["size"]))
    if not found:
        raise UserError(
            f"{path}: annotation {one.get('id')} ({name}) has no segmentation, at most a box: export polygons or masks"
        )
    return Shape(name, Polygons(found))
