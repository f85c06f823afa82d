"""A picture of files that were tried: score over time, the front of those than which none is faster and better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from segkd.report.curves import COLOURS, FAINT, INK, LEFT, Axis, written
from segkd.report.pictures import Image

WIDTH, HEIGHT, ABOVE, BELOW, RIGHT = 1040, 560, 48, 56, 40


def draw_front(rows: Sequence[Mapping[str, Any]], front: Sequence[Mapping[str, Any]], chosen: str) -> Image:
    """Tries as dots by their way to run, the front as a line, the chosen one with a ring -> (H, W, 3) uint8 RGB."""
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    along, up = (Axis([float(row[key]) for row in rows]) for key in ("latency_ms", "miou"))

    def place(row: Mapping[str, Any]) -> tuple[int, int]:
        x = LEFT + along.place(float(row["latency_ms"])) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BELOW - up.place(float(row["miou"])) * (HEIGHT - ABOVE - BELOW)
        return round(x), round(y)

    texts = [((LEFT, ABOVE / 2), "mIoU (%) over milliseconds to labels, one image", "lm", INK)]
    for value in along.ticks():
        x, _ = place({"latency_ms": value, "miou": rows[0]["miou"]})
        cv2.line(canvas, (x, ABOVE), (x, HEIGHT - BELOW), FAINT, 1)
        texts.append(((x, HEIGHT - BELOW + 9), f"{value:.4g}", "mt", INK))
    for value in up.ticks():
        _, y = place({"latency_ms": rows[0]["latency_ms"], "miou": value})
        cv2.line(canvas, (LEFT, y), (WIDTH - RIGHT, y), FAINT, 1)
        texts.append(((LEFT - 8, y), f"{value:.4g}", "rm", INK))
    for one, other in zip(front, front[1:], strict=False):
        cv2.line(canvas, place(one), place(other), INK, 1, cv2.LINE_AA)
    ways = list(dict.fromkeys(str(row["way"]) for row in rows))
    for row in rows:
        cv2.circle(canvas, place(row), 5, COLOURS[ways.index(str(row["way"])) % len(COLOURS)], -1, cv2.LINE_AA)
        if row["name"] == chosen:
            cv2.circle(canvas, place(row), 10, INK, 2, cv2.LINE_AA)
            texts.append(((place(row)[0] + 14, place(row)[1] + 12), chosen, "lm", INK))
    for number, way in enumerate(ways):
        texts.append(((WIDTH - RIGHT, HEIGHT - BELOW - 20 - 20 * number), way, "rm", COLOURS[number % len(COLOURS)]))
    return written(canvas, texts)
