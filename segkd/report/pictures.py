"""Label maps as colours, laid over images, and grids that show networks side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from segkd.files import replacing

Image = NDArray[np.uint8]

IGNORE = 255
_GAP = 4  # pixels between cells
_BACKGROUND, _INK = 255, (30, 30, 30)


def colourise(label: NDArray[np.integer], palette: Sequence[tuple[int, int, int]]) -> Image:
    """(H, W) classes -> (H, W, 3) uint8 RGB; void (255) is black.

    Raises:
        ValueError: a class that has no colour.
    """
    label = np.asarray(label)
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8)
    wrong = label[((label < 0) | (label >= len(palette))) & (label != IGNORE)]
    if wrong.size:
        raise ValueError(f"class {int(wrong[0])} has no colour: the palette has {len(palette)}")
    coloured: Image = table[label]
    return coloured


def overlay(
    image: Image, label: NDArray[np.integer], palette: Sequence[tuple[int, int, int]], alpha: float = 0.5
) -> Image:
    """alpha * colour + (1 - alpha) * image, (H, W, 3) uint8; void pixels show the image alone."""
    if image.shape[:2] != label.shape:
        raise ValueError(f"image {image.shape[:2]} and label {label.shape} differ in size")
    mixed = alpha * colourise(label, palette).astype(np.float32) + (1 - alpha) * image.astype(np.float32)
    mixed = np.where((label == IGNORE)[..., None], image, mixed)
    result: Image = np.rint(mixed).astype(np.uint8)
    return result


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
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a picture is (H, W, 3) uint8, got {image.shape} {image.dtype}")
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"cannot encode a picture of {image.shape} as PNG")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
