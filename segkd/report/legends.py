"""Legends: the colours of classes with their names, as a picture of its own or beside another."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

Image = NDArray[np.uint8]
Entry = tuple[str, tuple[int, int, int]]

LARGEST, SMALLEST = 28, 13  # pixels of a line
ROWS = 25  # of a legend of its own
FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "arial.ttf", "Arial Unicode.ttf")
_PAPER, _INK, _RIM = (255, 255, 255), (30, 30, 30), (110, 110, 110)


def legend(entries: Sequence[Entry], height: int | None = None) -> Image:
    """Names beside their colours (R, G, B), in one column or several, as (H, W, 3) uint8.

    Args:
        entries: name and colour of each.
        height: of the picture, in pixels (default: as it needs); one that is too low for a legible line is exceeded.
    """
    return _legend(tuple((name, (c[0], c[1], c[2])) for name, c in entries), height)


def beside(image: Image, entries: Sequence[Entry]) -> Image:
    """An image (H, W, 3) with a legend at its right; of equal heights, filled with white below."""
    right = legend(entries, image.shape[0])
    height = max(image.shape[0], right.shape[0])
    canvas = np.full((height, image.shape[1] + right.shape[1], 3), _PAPER, np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    canvas[: right.shape[0], image.shape[1] :] = right
    return canvas


@lru_cache(maxsize=8)
def _legend(entries: tuple[Entry, ...], height: int | None) -> Image:
    count = max(len(entries), 1)
    if height is None:
        rows, line = min(count, ROWS), LARGEST
    else:
        line = int(np.clip((height - 8) // count, SMALLEST, LARGEST))
        rows = max(1, min(count, (height - 8) // line))
    font = _font("".join(name for name, _ in entries), max(9, round(0.62 * line)))
    columns = [entries[k : k + rows] for k in range(0, len(entries), rows)]
    widths = [max(int(font.getlength(_line(name))) + 1 for name, _ in column) + round(1.9 * line) for column in columns]
    picture = Pillow.new("RGB", (sum(widths) + 8, max(height or 0, rows * line + 8)), _PAPER)
    draw = ImageDraw.Draw(picture)
    left = 4
    for column, width in zip(columns, widths, strict=True):
        for row, (name, colour) in enumerate(column):
            top = 4 + row * line
            box = (left + 2, top + round(0.12 * line), left + round(1.15 * line), top + round(0.86 * line))
            draw.rectangle(box, fill=colour, outline=_RIM)
            draw.text((left + round(1.45 * line), top + line // 2), _line(name), fill=_INK, font=font, anchor="lm")
        left += width
    return np.array(picture, np.uint8)


def _font(text: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which has ASCII; for other letters one of the system's, if it is there."""
    for file in () if text.isascii() else FONTS:
        with suppress(OSError):
            return ImageFont.truetype(file, size)
    return ImageFont.load_default(size)


def _line(name: str) -> str:
    return " ".join(name.split()) or " "
