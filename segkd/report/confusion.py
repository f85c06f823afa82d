"""What a network takes for what: its confusion matrix as a picture and as a table for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from segkd.files import replacing
from segkd.report.pictures import Image

INK, PAPER, LINE = (30, 30, 30), (255, 255, 255), (225, 225, 225)
FULL = np.array([8, 64, 129])  # the colour of 100 %
NUMBERED = 40  # classes up to which the percentages are written
SIDE, SMALLEST = 1200, 7  # pixels of the matrix at most, and of a cell at least
CELL = 34
GAP = 10


def draw_confusion(counts: NDArray[np.int64], class_names: Sequence[str], title: str) -> Image:
    """Truth by prediction, in percent of the truth's pixels -> (H, W, 3) uint8 RGB.

    Classes without a pixel in truth and prediction are left out.

    Args:
        counts: (K, K) or more, row = truth; of a row or a column beyond K, void.
        class_names: K names.
        title: over it.
    """
    names = [*class_names, *(["void"] * (len(counts) - len(class_names)))]
    there = [k for k in range(len(counts)) if counts[k].sum() + counts[:, k].sum()]
    kept, names = counts[np.ix_(there, there)].astype(float), [names[k] for k in there]
    with np.errstate(invalid="ignore"):
        share = 100 * kept / kept.sum(1, keepdims=True)
    cell = int(np.clip(SIDE // max(len(names), 1), SMALLEST, CELL))
    font = ImageFont.load_default(int(np.clip(0.6 * cell, 7, 15)))
    wide = max((int(font.getlength(name)) for name in names), default=0) + GAP
    above, side = wide + 70, cell * len(names)
    size = (max(wide + side + 2 * GAP, 620), above + side + 2 * GAP)
    picture = Pillow.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(picture)
    heading = ImageFont.load_default(15)
    pen.text((GAP, 12), title, INK, heading)
    pen.text((GAP, 34), "row: truth, column: prediction, in % of the truth's pixels", INK, heading)
    _names(picture, names, (wide, above), cell, font)
    for (row, column), value in np.ndenumerate(share):
        corner = (wide + column * cell, above + row * cell)
        _cell(pen, corner, cell, value, font if len(names) <= NUMBERED else None)
    return np.asarray(picture)


def _names(picture: Any, names: Sequence[str], corner: tuple[int, int], cell: int, font: Any) -> None:
    """Names before the rows, and upright over the columns."""
    pen = ImageDraw.Draw(picture)
    for number, name in enumerate(names):
        pen.text((corner[0] - 5, corner[1] + (number + 0.5) * cell), name, INK, font, "rm")
        label = Pillow.new("RGB", (corner[0], cell), PAPER)
        ImageDraw.Draw(label).text((2, cell / 2), name, INK, font, "lm")
        picture.paste(label.rotate(90, expand=True), (corner[0] + number * cell, corner[1] - corner[0] - 3))


def _cell(pen: Any, corner: tuple[int, int], side: int, value: float, font: Any) -> None:
    """A cell in the colour of its percentage; grey where the truth has no pixel."""
    part = 0.0 if np.isnan(value) else value / 100
    colour = LINE if np.isnan(value) else tuple(np.rint(255 + part * (FULL - 255)).astype(int).tolist())
    x, y = corner
    pen.rectangle((x, y, x + side, y + side), fill=colour, outline=LINE)
    if font is not None and value >= 0.5:
        ink = PAPER if part > 0.5 else INK
        pen.text((x + side / 2, y + side / 2), f"{value:.0f}", ink, font, "mm")


def write_confusion(path: Path, counts: NDArray[np.int64], class_names: Sequence[str]) -> None:
    """Write pixel counts as CSV: a row for each class of the truth, a column for each predicted one."""
    names = [*class_names, *(["void"] * (len(counts) - len(class_names)))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["truth", *names])
    writer.writerows([name, *row.tolist()] for name, row in zip(names, counts, strict=True))
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that have the same keys as CSV, the keys first; NaN is empty, a reader never sees half a file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(list(rows[0]) if rows else [])
    writer.writerows(list(_cells(row)) for row in rows)
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _cells(row: Mapping[str, Any]) -> Iterator[Any]:
    for value in row.values():
        missing = isinstance(value, float) and np.isnan(value)
        yield "" if missing else f"{value:.4f}" if isinstance(value, float) else value
