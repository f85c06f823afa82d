"""Labels that are drawn: polygons, runs and patches of named classes, rasterised in their order.

A pixel is in a polygon if its centre is: pixel (x, y) is the square from (x, y) to (x + 1, y + 1), as COCO has it. The
rasteriser is COCO's own (pycocotools), for all formats. A shape lies over those before it in the file.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segkd.datasets.base import Array
from segkd.datasets.class_lists import ClassEntry
from segkd.datasets.files import LabelReader, Pair, UnknownLabelError
from segkd.datasets.legend import Legend
from segkd.errors import UserError, nearest

FAR = 2  # image sizes that a point may lie outside, by a slip of the mouse; more is another unit


class Polygons(NamedTuple):
    """The union of the insides of rings, each x0, y0, x1, y1, ..."""

    rings: Sequence[Sequence[float]]


class Runs(NamedTuple):
    """COCO's run lengths, column by column, as a list or as compressed text, of an image of ``size`` (H, W)."""

    counts: Any
    size: Sequence[int]


class Patch(NamedTuple):
    """A mask (h, w) of bool at a place in the image."""

    top: int
    left: int
    mask: Any


class Shape(NamedTuple):
    """What a shape is of, and where it is."""

    name: str
    region: Polygons | Runs | Patch


class Drawing(NamedTuple):
    """The shapes of an image, in order, and its size (H, W)."""

    size: tuple[int, int]
    shapes: Sequence[Shape]


class ShapeReader(LabelReader):
    """Labels that are shapes, as a format stores them."""

    def __init__(self, legend: Legend) -> None:
        self.legend = legend

    @abstractmethod
    def drawing(self, pair: Pair) -> Drawing:
        """The shapes of a pair's label."""

    def read(self, pair: Pair) -> Array:
        size, shapes = self.drawing(pair)
        if unknown := [shape.name for shape in shapes if self.legend.meaning(shape.name) is None]:
            raise UnknownLabelError(self._problem(pair, unknown), size)
        label = np.full(size, self.legend.background, dtype=np.uint8)
        for shape in shapes:
            target = self.legend.meaning(shape.name)
            try:
                draw(label, shape.region, target)
            except (TypeError, ValueError, IndexError, OverflowError) as error:
                raise UserError(f"{pair.label}, image {pair.name}: a shape of {shape.name!r}: {error}") from error
        return label

    def _problem(self, pair: Pair, unknown: Sequence[str]) -> str:
        name = unknown[0]
        count = unknown.count(name)
        others = len(set(unknown)) - 1
        more = f" (and {others} other unknown names)" if others else ""
        return (
            f"{pair.label}, image {pair.name}: label {name!r} ({count} {'shape' if count == 1 else 'shapes'}) of no "
            f"class{more}: add it to the class names, or say what it means by label_map={{{name!r}: CLASS}} or "
            f"ignore={name!r}; {nearest(name, self.legend.names)}"
        )


def draw(label: Array, region: Polygons | Runs | Patch, target: Any) -> None:
    """Give the pixels of a region a class, in place; what lies outside the image is left out.

    Raises:
        ValueError: a region that is none, in words for a message.
    """
    if isinstance(region, Polygons):
        for ring in region.rings:
            _draw_ring(label, ring, target)
        return
    top, left, mask = (0, 0, _decoded(region, label.shape)) if isinstance(region, Runs) else region
    inside = mask[max(0, -top) : max(0, label.shape[0] - top), max(0, -left) : max(0, label.shape[1] - left)]
    part = label[max(0, top) :, max(0, left) :][: inside.shape[0], : inside.shape[1]]
    part[inside] = target


def _draw_ring(label: Array, ring: Sequence[float], target: Any) -> None:
    """As pycocotools fills a polygon in the whole image, but within the polygon's own bounds."""
    from pycocotools import mask as coco

    height, width = label.shape
    points = np.asarray(ring, dtype=np.float64)
    if points.ndim != 1 or len(points) % 2 or not np.isfinite(points).all():
        raise ValueError(f"a polygon must be a list of numbers, x and y in turn, got {str(ring)[:60]}")
    if len(points) < 6:
        return  # a point or a line covers no pixel
    xs, ys = points[::2], points[1::2]
    if max(abs(xs).max() / width, abs(ys).max() / height) > FAR:
        raise ValueError(f"points lie up to {abs(xs).max():g}, {abs(ys).max():g} in an image of {width} x {height}")
    left, top = (max(0, math.floor(values.min())) for values in (xs, ys))
    right, bottom = min(width, math.ceil(xs.max()) + 1), min(height, math.ceil(ys.max()) + 1)
    if right <= left or bottom <= top:
        return
    moved = np.stack([xs - left, ys - top], 1).ravel().tolist()
    mask = coco.decode(coco.frPyObjects([moved], bottom - top, right - left))[..., 0]
    label[top:bottom, left:right][mask.astype(bool)] = target


def _decoded(runs: Runs, shape: tuple[int, ...]) -> Any:
    from pycocotools import mask as coco

    height, width = (int(side) for side in runs.size)
    if (height, width) != tuple(shape):
        raise ValueError(f"its runs are of {width} x {height}, the image is {shape[1]} x {shape[0]} (width x height)")
    if isinstance(runs.counts, str | bytes):
        text = runs.counts.encode() if isinstance(runs.counts, str) else runs.counts
        packed = {"size": [height, width], "counts": text}
    else:
        counts = [int(count) for count in runs.counts]
        if min(counts, default=0) < 0 or sum(counts) != height * width:
            raise ValueError(f"its runs are {sum(counts)} pixels long, the image has {height * width}")
        packed = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return coco.decode(packed).astype(bool)


def box(x0: float, y0: float, x1: float, y1: float) -> Polygons:
    """A rectangle by two of its corners."""
    return Polygons([[x0, y0, x1, y0, x1, y1, x0, y1]])


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Polygons:
    """An ellipse about (x, y), turned by degrees clockwise, as a polygon that is less than a 20th of a pixel off."""
    count = max(16, math.ceil(math.pi * math.sqrt(10 * max(rx, ry, 1))))  # the sagitta of an arc is r (pi / n)^2 / 2
    angles = np.linspace(0, 2 * math.pi, count, endpoint=False)
    along, across = rx * np.cos(angles), ry * np.sin(angles)
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    return Polygons([np.stack([x + along * cos - across * sin, y + along * sin + across * cos], 1).ravel().tolist()])


def read_text(path: Path) -> str:
    """The text of an annotation file; a UserError that names it."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise UserError(f"{path}: the labels cannot be read ({reason})") from error


def stamp(path: Path) -> tuple[str, int, int]:
    """A file's path, time and size: what is read of it holds as long as these do."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: the labels cannot be read ({error.strerror})") from error
    return str(path), status.st_mtime_ns, status.st_size


def entries_of(names: Sequence[str]) -> list[ClassEntry]:
    """Class entries of the names that annotations use, each once, in order."""
    return [ClassEntry(name) for name in dict.fromkeys(names)]
