"""LabelMe's annotations: a JSON beside each image, with polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segkd.datasets.class_lists import ClassEntry
from segkd.datasets.files import Pair
from segkd.datasets.formats.shapes import (
    Drawing,
    Patch,
    Polygons,
    Shape,
    ShapeReader,
    box,
    ellipse,
    entries_of,
    read_text,
)
from segkd.datasets.legend import BACKGROUND, IGNORED
from segkd.errors import UserError


class LabelMeReader(ShapeReader):
    """Labels in LabelMe's JSON files, the shapes in the order of the file."""

    def drawing(self, pair: Pair) -> Drawing:
        return read_labelme(pair.label)


def labelme_classes(files: Iterable[Path]) -> list[ClassEntry]:
    """The names that the shapes of some files have, in order; a background first."""
    names = {shape.name for file in files for shape in read_labelme(file).shapes} - {IGNORED}
    return entries_of(sorted(names, key=lambda name: (name.lower() not in BACKGROUND, name)))


def read_labelme(path: Path) -> Drawing:
    """The shapes of a file."""
    try:
        tree = json.loads(read_text(path))
        size = int(tree["imageHeight"]), int(tree["imageWidth"])
        return Drawing(size, [_shape(one, path) for one in tree["shapes"]])
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); it is damaged or cut short") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: no annotation as LabelMe writes them ({what})") from error


def _shape(one: Mapping[str, Any], path: Path) -> Shape:
    name, kind, points = str(one["label"]), one.get("shape_type") or "polygon", one["points"]
    if kind == "polygon":
        return Shape(name, Polygons([[float(value) for point in points for value in point]]))
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points[0], points[-1] if len(points) == 2 else points[2]
        return Shape(name, box(x0, y0, x1, y1))
    if kind == "circle":
        (x, y), (at_x, at_y) = points
        radius = math.hypot(at_x - x, at_y - y)
        return Shape(name, ellipse(x, y, radius, radius))
    if kind == "mask":
        data = np.frombuffer(base64.b64decode(one["mask"]), np.uint8)
        mask = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if len(data) else None
        if mask is None:
            raise ValueError(f"the mask of a shape of {name!r} is damaged")
        return Shape(name, Patch(round(points[0][1]), round(points[0][0]), mask > 0))
    raise UserError(
        f"{path}: a shape of {name!r} is a {kind}, which covers no area: make it a polygon, or delete it in LabelMe"
    )
