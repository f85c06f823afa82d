"""A sheet of images beside their labels, with a legend of the classes that are seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from segkd.report.pictures import IGNORE, Image

CELL, GAP, LINE = 360, 6, 20  # pixels: width of a picture, space between them, height of a line of text
TALLEST, FLATTEST = 1.25, 0.4  # height of a cell by its width
COLUMN = 200  # width of a column of the legend
SWATCH = 14
OPACITY = 0.6
PAPER, INK, EMPTY = (255, 255, 255), (30, 30, 30), (225, 225, 225)
Row = tuple[str, Sequence[tuple[Image, Image]]]  # a name; images (H, W, 3) uint8 RGB with labels (H, W) uint8


class Sheet(NamedTuple):
    """What a sheet is made of.

    class_names, palette: of the data set.
    title: over all.
    heads: what each pair of a row shows.
    """

    class_names: Sequence[str]
    palette: Sequence[tuple[int, int, int]]
    title: str
    heads: Sequence[str]


def draw_sheet(sheet: Sheet, rows: Iterable[Row]) -> Image:
    """The picture (H, W, 3) uint8 RGB: two images with their labels in each line, or one in two states.

    Void is shown dark. The legend has the classes that occur in the labels, in the order of their ids.

    Raises:
        ValueError: no rows.
    """
    seen: set[int] = set()
    tiles, height = [], 0
    for name, pairs in rows:
        height = height or _cell_height(pairs[0][0])
        seen.update(int(value) for _, label in pairs for value in np.unique(label))
        tiles.append(_tile(name, pairs, sheet, height))
    if not tiles:
        raise ValueError("a contact sheet needs at least one image")
    across = 2 if len(sheet.heads) == 1 and len(tiles) > 1 else 1
    blank = np.full_like(tiles[0], PAPER)
    tiles += [blank] * (-len(tiles) % across)
    lines = [np.hstack(tiles[k : k + across]) for k in range(0, len(tiles), across)]
    width = lines[0].shape[1]
    return np.vstack([_text_line(sheet.title, width), *lines, _legend(sheet, sorted(seen), width)])


def _cell_height(image: Image) -> int:
    return int(CELL * min(max(image.shape[0] / image.shape[1], FLATTEST), TALLEST))


def _tile(name: str, pairs: Sequence[tuple[Image, Image]], sheet: Sheet, height: int) -> Image:
    """One row's pictures side by side, under their name."""
    cells = []
    for image, label in pairs:
        small, classes = _fitted(image, height, cv2.INTER_AREA), _fitted(label, height, cv2.INTER_NEAREST)
        cells += [_framed(small, height), _framed(_laid_over(small, classes, sheet.palette), height)]
    pictures = np.hstack(cells)
    heads = f" ({' | '.join(sheet.heads)})" if len(sheet.heads) > 1 else ""
    return np.vstack([_text_line(f"{name}{heads}", pictures.shape[1]), pictures])


def _fitted(picture: Image, height: int, how: int) -> Image:
    """A picture as large as it fits into a cell."""
    factor = min(CELL / picture.shape[1], height / picture.shape[0])
    size = (max(1, round(factor * picture.shape[1])), max(1, round(factor * picture.shape[0])))
    if factor > 1 and how == cv2.INTER_AREA:
        how = cv2.INTER_NEAREST  # pixels of small images stay pixels
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)


def _laid_over(image: Image, label: Image, palette: Sequence[tuple[int, int, int]]) -> Image:
    """The classes in their colours over the image; void in black."""
    table = np.zeros((256, 3), np.float32)
    table[: len(palette)] = palette
    return np.asarray(np.rint(OPACITY * table[label] + (1 - OPACITY) * image), np.uint8)


def _framed(picture: Image, height: int) -> Image:
    """A picture in the middle of a cell."""
    cell = np.full((height + GAP, CELL + GAP, 3), PAPER, np.uint8)
    cell[:height, GAP:] = EMPTY
    top, left = (height - picture.shape[0]) // 2, GAP + (CELL - picture.shape[1]) // 2
    cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return cell


def _text_line(text: str, width: int) -> Image:
    """A line of text, cut where it would be too long."""
    canvas, draw, font = _canvas(LINE, width)
    draw.text((GAP, 2), _cut(text, width - 2 * GAP, draw, font), fill=INK, font=font)
    return np.asarray(canvas)


def _cut(text: str, width: int, draw: Any, font: Any) -> str:
    """A text in one line, cut to a width."""
    text = " ".join(text.split())
    while text and (length := draw.textlength(text, font=font)) > width:
        keep = min(len(text) - 4, int(len(text) * width / length) - 2)
        text = f"{text[:keep]}..." if keep > 0 else ""
    return text


def _legend(sheet: Sheet, seen: Sequence[int], width: int) -> Image:
    """A swatch and a name of each class that is seen; void's at the end."""
    entries = [(sheet.palette[k], sheet.class_names[k]) for k in seen if k < len(sheet.class_names)]
    entries += [((0, 0, 0), "void")] if IGNORE in seen else []
    columns = max(1, width // COLUMN)
    canvas, draw, font = _canvas(-(-len(entries) // columns) * LINE + 2 * GAP, width)
    for k, (colour, name) in enumerate(entries):
        left, top = GAP + k % columns * COLUMN, GAP + k // columns * LINE
        draw.rectangle((left, top, left + SWATCH, top + SWATCH), fill=tuple(colour), outline=INK)
        shown = _cut(name, COLUMN - 3 * SWATCH, draw, font)
        draw.text((left + SWATCH + GAP, top - 1), shown, fill=INK, font=font)
    return np.asarray(canvas)


def _canvas(height: int, width: int) -> tuple[Any, Any, Any]:
    """A sheet of paper, what draws on it, and a font."""
    from PIL import Image as Pillow  # here: tables and curves need none
    from PIL import ImageDraw, ImageFont

    canvas = Pillow.new("RGB", (width, height), PAPER)
    return canvas, ImageDraw.Draw(canvas), ImageFont.load_default(13)
