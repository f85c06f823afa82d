"""YOLO's segmentation labels: a text file for each image, a polygon on each line, in parts of the image's size."""

from __future__ import annotations

from segkd.datasets.files import Pair
from segkd.datasets.formats.shapes import Drawing, Polygons, Shape, ShapeReader, read_text
from segkd.datasets.image_headers import image_size
from segkd.datasets.legend import Legend
from segkd.errors import UserError

SLACK = 0.01  # of the image, by which writers' rounding and slips may lie outside of it


class YoloReader(ShapeReader):
    """Labels in lines of ``CLASS x0 y0 x1 y1 ...``; an empty file is background alone.

    Args:
        legend: of the classes.
        names: of YOLO's class numbers, in order.
        upright: whether images are turned as their orientation tags say, on which the size depends.
    """

    def __init__(self, legend: Legend, names: dict[int, str], upright: bool = True) -> None:
        super().__init__(legend)
        self.names, self.upright = names, upright

    def drawing(self, pair: Pair) -> Drawing:
        height, width = image_size(pair.image, self.upright)
        shapes = []
        for number, line in enumerate(read_text(pair.label).splitlines(), 1):
            if line.strip():
                shapes.append(self._shape(line.split(), (height, width), f"{pair.label}, line {number}"))
        return Drawing((height, width), shapes)

    def _shape(self, fields: list[str], size: tuple[int, int], where: str) -> Shape:
        try:
            kind, values = int(fields[0]), [float(field) for field in fields[1:]]
        except ValueError as error:
            raise UserError(f"{where}: must be a class number and x y pairs, got {' '.join(fields)[:40]!r}") from error
        if len(values) == 4:
            raise UserError(f"{where}: a box, no polygon: export YOLO's segmentation labels (x y pairs, 3 or more)")
        if len(values) < 6 or len(values) % 2:
            raise UserError(f"{where}: {len(values)} numbers after the class; a polygon has x y pairs, 3 or more")
        if min(values) < -SLACK or max(values) > 1 + SLACK:
            raise UserError(
                f"{where}: {max(values, key=abs):g} is no part of the image's size; YOLO's x and y are 0..1"
            )
        if kind not in self.names:
            raise UserError(
                f"{where}: class {kind} of no name; the class list has {', '.join(map(str, sorted(self.names)[:20]))}"
            )
        scaled = [value * size[1 - k % 2] for k, value in enumerate(values)]
        return Shape(self.names[kind], Polygons([scaled]))
