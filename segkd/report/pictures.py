"""Label maps as colours, laid over images, and grids that show networks side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from segkd.files import replacing

Image = NDArray[np.uint8]

IGNORE = 255
_GAP = 4  # pixels between cells
_BACKGROUND, _INK = 255, (30, 30, 30)


def colourise(label: NDArray[np.integer], palette: Sequence[tuple[int, int, int]]) -> Image:
    """(H, W) classes -> (H, W, 3) uint8 RGB; void (255 of up to 255 classes) is black.

    Raises:
        ValueError: a class that has no colour.
    """
    label = np.asarray(label)
    _check_classes(label, len(palette))
    table = np.zeros((max(256, len(palette)), 1, 3), np.uint8)
    table[: len(palette), 0] = np.asarray(palette, np.uint8)
    if len(table) == 256:
        return np.asarray(cv2.applyColorMap(label.astype(np.uint8, copy=False), table), np.uint8)
    coloured: Image = table[label, 0]
    return coloured


def _check_classes(label: NDArray[np.integer], count: int) -> None:
    if label.size and label.min() >= 0 and label.max() < count:
        return
    wrong = label[((label < 0) | (label >= count)) & ((label != IGNORE) | (count > IGNORE))]
    if wrong.size:
        raise ValueError(f"class {int(wrong[0])} has no colour: the palette has {count}")


def overlay(
    image: Image, label: NDArray[np.integer], palette: Sequence[tuple[int, int, int]], alpha: float = 0.5
) -> Image:
    """alpha * colour + (1 - alpha) * image, (H, W, 3) uint8; void pixels show the image alone."""
    if image.shape[:2] != label.shape:
        raise ValueError(f"image {image.shape[:2]} and label {label.shape} differ in size")
    mixed: Image = np.asarray(cv2.addWeighted(colourise(label, palette), alpha, image, 1 - alpha, 0), np.uint8)
    if len(palette) <= IGNORE and (void := label == IGNORE).any():
        mixed[void] = image[void]
    return mixed


def grid(rows: Sequence[Sequence[Image]], titles: Sequence[str]) -> Image:
    """Pictures (h, w, 3) uint8 in rows and columns, with a title over each column.

    All cells get the size of the first picture (nearest neighbour: a label's colours stay pure).
    """
    if not rows or any(len(row) != len(titles) for row in rows):
        raise ValueError(f"every row needs {len(titles)} pictures, one per title; got {[len(row) for row in rows]}")
    height, width = rows[0][0].shape[:2]
    bar = _title_height(width)
    shape = (bar + len(rows) * (height + _GAP) + _GAP, len(titles) * (width + _GAP) + _GAP, 3)
    canvas = np.full(shape, _BACKGROUND, np.uint8)
    for column, title in enumerate(titles):
        left = _GAP + column * (width + _GAP)
        _draw_title(canvas[:bar, left : left + width], title)
        for row, pictures in enumerate(rows):
            top = bar + _GAP + row * (height + _GAP)
            cell = pictures[column]
            if cell.shape[:2] != (height, width):
                cell = np.asarray(cv2.resize(cell, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
            canvas[top : top + height, left : left + width] = cell
    return canvas


def _title_height(width: int) -> int:
    return int(np.clip(width // 10, 18, 40))


def _draw_title(area: Image, title: str) -> None:
    """Write ``title`` in the middle of ``area``, as large as it fits; OpenCV's font has ASCII only."""
    text = title.encode("ascii", "replace").decode()
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = min(0.55 * area.shape[0] / max(height, 1), 0.95 * area.shape[1] / max(width, 1))
    left = int((area.shape[1] - scale * width) / 2)
    bottom = int((area.shape[0] + scale * height) / 2)
    written = np.ascontiguousarray(area)
    cv2.putText(written, text, (left, bottom), font, scale, _INK, 1, cv2.LINE_AA)
    area[:] = written


def write_png(path: str | Path, image: Image) -> None:
    """Write (H, W, 3) uint8 RGB as a PNG; a reader never sees half a file."""
    data = png(image)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def png(image: Image) -> bytes:
    """The PNG file of a picture (H, W, 3) uint8 RGB."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a picture is (H, W, 3) uint8, got {image.shape} {image.dtype}")
    return _encoded(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def grey_png(values: NDArray[np.unsignedinteger]) -> bytes:
    """The PNG file of a map (H, W), uint8 or uint16."""
    if values.ndim != 2 or values.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a map is (H, W) uint8 or uint16, got {values.shape} {values.dtype}")
    return _encoded(values)


def palette_png(label: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]) -> bytes:
    """The PNG file of classes (H, W) with a colour for each: viewers show colours, programs can read the classes."""
    _check_classes(label, len(palette))
    picture = Pillow.fromarray(label)
    picture.putpalette([value for colour in palette for value in colour])
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _encoded(image: NDArray[np.unsignedinteger]) -> bytes:
    done, data = cv2.imencode(".png", image)
    if not done:
        raise ValueError(f"cannot encode a picture of {image.shape} as PNG")
    encoded: bytes = data.tobytes()
    return encoded
