"""A picture of what each layer loses in int8: a bar for each, the worst on top."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from segkd.report.curves import COLOURS, FAINT, INK, LEFT, RIGHT, WIDTH, Axis, written
from segkd.report.pictures import Image

BAND, ABOVE, BELOW = 16, 48, 44  # pixels: of a layer, over the first one, under the last one
MOST = 100.0  # dB: what is above is nothing lost


def draw_layers(losses: Sequence[tuple[str, float]]) -> Image:
    """Layers with their signal to noise (dB), the worst first -> (H, W, 3) uint8 RGB."""
    height = ABOVE + BAND * len(losses) + BELOW
    canvas = np.full((height, WIDTH, 3), 255, np.uint8)
    axis = Axis([0.0, *(min(value, MOST) for _, value in losses)])
    texts = [((LEFT, ABOVE / 2), "logits' signal to noise (dB), this layer alone in int8", "lm", INK)]
    for value in axis.ticks():
        x = _x(axis, value)
        cv2.line(canvas, (x, ABOVE - 8), (x, height - BELOW), FAINT, 1)
        texts.append(((x, height - BELOW + 9), f"{value:.4g}", "mt", INK))
    for number, (name, value) in enumerate(losses):
        y = ABOVE + BAND * number + BAND // 2
        cv2.rectangle(canvas, (LEFT, y - 5), (_x(axis, min(value, MOST)), y + 5), COLOURS[0], -1)
        texts.append(((WIDTH - RIGHT + 16, y), f"{value:.1f}  {name}", "lm", INK))
    return written(canvas, texts)


def _x(axis: Axis, value: float) -> int:
    return round(LEFT + axis.place(value) * (WIDTH - RIGHT - LEFT))
