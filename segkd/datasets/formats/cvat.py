"""CVAT's annotations ("CVAT for images 1.1"): one XML for many images, with polygons, boxes, ellipses and masks."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from segkd.datasets.class_lists import ClassEntry
from segkd.datasets.files import Pair
from segkd.datasets.formats.shapes import Drawing, Patch, Polygons, Shape, ShapeReader, box, ellipse, stamp
from segkd.datasets.palettes import parse_colour
from segkd.errors import UserError

KINDS = ("polygon", "box", "ellipse", "mask")
LINES = ("polyline", "points", "cuboid", "skeleton")
Content = tuple[dict[str, Drawing], list[ClassEntry]]


class CvatReader(ShapeReader):
    """Labels in the ``<image>`` elements of an annotations.xml, by their z_order and then in the order of the file."""

    def drawing(self, pair: Pair) -> Drawing:
        return read_cvat(pair.label)[0][pair.key]


def cvat_classes(path: Path) -> list[ClassEntry]:
    """The labels of the task, with their colours; those that shapes use, where the file lists none."""
    drawings, listed = read_cvat(path)
    used = sorted({shape.name for drawing in drawings.values() for shape in drawing.shapes})
    return listed or [ClassEntry(name) for name in used]


def read_cvat(path: Path) -> Content:
    """The drawings of all images by their names without suffix, and the labels of the task."""
    return _read(*stamp(path))


@lru_cache(maxsize=4)
def _read(file: str, _time: int, _size: int) -> Content:
    path = Path(file)
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise UserError(f"{path}: cannot be read as XML ({error}); it is damaged or cut short") from error
    if root.tag != "annotations" or root.find("image") is None:
        hint = "tracks of a video" if root.find("track") is not None else f"<{root.tag}> without images"
        raise UserError(f"{path}: holds {hint}; export the task as 'CVAT for images 1.1'")
    drawings: dict[str, Drawing] = {}
    for image in root.iter("image"):
        name = Path(image.attrib.get("name", "")).with_suffix("").as_posix()
        if name in drawings:
            raise UserError(f"{path}: two images of the name {name!r}; keep one")
        try:
            drawings[name] = _drawing(image, path, name)
        except (KeyError, ValueError, TypeError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{path}, image {name}: an annotation cannot be read: {what}") from error
    return drawings, _labels(root, path)


def _labels(root: ElementTree.Element, path: Path) -> list[ClassEntry]:
    found = {}
    for label in root.iterfind("meta//label"):
        name, colour = label.findtext("name"), label.findtext("color")
        if name:
            found[name] = ClassEntry(name, None, parse_colour(colour, str(path)) if colour else None)
    shades = [entry.colour for entry in found.values()]
    unique = None not in shades and len(set(shades)) == len(shades)
    return [entry if unique else entry._replace(colour=None) for entry in found.values()]


def _drawing(image: ElementTree.Element, path: Path, name: str) -> Drawing:
    lines = next((child for child in image if child.tag in LINES), None)
    if lines is not None:
        raise UserError(
            f"{path}, image {name}: a {lines.tag} of {lines.attrib.get('label')!r} covers no area: make it a polygon, "
            "or delete it in CVAT"
        )
    elements = sorted((e for e in image if e.tag in KINDS), key=lambda element: int(element.attrib.get("z_order", 0)))
    size = int(image.attrib["height"]), int(image.attrib["width"])
    return Drawing(size, [Shape(element.attrib["label"], _region(element.tag, element.attrib)) for element in elements])


def _region(kind: str, given: Mapping[str, str]) -> Polygons | Patch:
    if kind == "polygon":
        return Polygons([[float(value) for point in given["points"].split(";") for value in point.split(",")]])
    if kind == "box":
        x0, y0, x1, y1 = (float(given[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        if float(given.get("rotation", 0)):
            raise ValueError("a rotated box; make it a polygon in CVAT")
        return box(x0, y0, x1, y1)
    if kind == "ellipse":
        x, y, rx, ry = (float(given[key]) for key in ("cx", "cy", "rx", "ry"))
        return ellipse(x, y, rx, ry, float(given.get("rotation", 0)))
    left, top, width, height = (int(given[key]) for key in ("left", "top", "width", "height"))
    counts = [int(count) for count in given["rle"].split(",")]
    if sum(counts) != width * height:
        raise ValueError(f"a mask of {width} x {height} whose runs are {sum(counts)} pixels long")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)  # row by row, beginning outside of the shape
    return Patch(top, left, flat.reshape(height, width))
