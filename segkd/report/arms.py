"""A comparison of ways to train a student: its table, what follows from it, and its picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import cv2
import numpy as np

from segkd.report.curves import COLOURS, FAINT, INK, LEFT, RIGHT, WIDTH, Axis, Curve, chart, written
from segkd.report.pictures import Image
from segkd.report.tables import Column, RowsTable

BAND, ABOVE, BELOW = 34, 48, 50  # pixels: of an arm, over the first one, under the last one
TEACHER = (120, 120, 120)


class Found(Protocol):
    """What is shown: see ``segkd.workbench.arms.Comparison``."""

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The arms."""

    @property
    def teacher(self) -> float | None:
        """The teacher's score."""

    @property
    def baseline(self) -> str:
        """What the arms are held against."""

    @property
    def curves(self) -> Mapping[str, Mapping[int, float]]:
        """The scores on the way."""

    @property
    def unfinished(self) -> Sequence[str]:
        """What is missing."""


COLUMNS = (
    Column("name", "arm", str),
    Column("steps", "steps", str),
    Column("seeds", "seeds", str),
    Column("miou", "mIoU\n(%)", "{:.2f}".format),
    Column("deviation", "sd of\nseeds", "{:.2f}".format),
    Column("gain", "gain", "{:+.2f}".format),
    Column("interval", "95 % interval", str),
    Column("verdict", "", str),
)


def gains_table(rows: Sequence[Mapping[str, Any]]) -> RowsTable:
    """The arms as a table for the terminal, the best first; gains are over the baseline."""
    shown = [
        {**row, "interval": None if row["gain"] is None else f"{row['gain_low']:+.2f} .. {row['gain_high']:+.2f}"}
        for row in rows
    ]
    return RowsTable(COLUMNS, shown)


def comparison_lines(found: Found) -> Iterator[str]:
    """What follows from a comparison, and what limits it, in sentences."""
    names = {
        verdict: [row["name"] for row in found.rows if row["verdict"] == verdict] for verdict in ("better", "worse")
    }
    base = found.baseline
    if found.teacher is not None:
        yield f"the teacher has {found.teacher:.2f}"
    for verdict, arms in names.items():
        if arms:
            yield f"{verdict} than {base}: {', '.join(arms)}"
    undecided = [row["name"] for row in found.rows if row["verdict"] == "within noise"]
    if undecided:
        yield f"not told apart from {base}: {', '.join(undecided)}: their intervals hold 0"
    if any(row["gain_seeds"] == 1 and row["gain"] is not None for row in found.rows):
        yield "one seed: its interval is over images alone, and another seed may say otherwise"
    if len(found.rows) > 3:
        yield "the best of several arms looks better than it is: confirm it with seeds that are not in this table"
    if found.unfinished:
        yield f"left out for time: {'; '.join(found.unfinished)}"


def draw_comparison(found: Found) -> Image:
    """Arms with intervals and seeds, and under them their curves -> (H, W, 3) uint8 RGB."""
    curves = [
        Curve(row["name"], sorted(found.curves[row["name"]].items()))
        for row in found.rows
        if found.curves.get(row["name"])
    ]
    points = [point for curve in curves for point in curve.points]
    drawn = [_bars(found)]
    if points:
        along, up = Axis([0.0, *(float(step) for step, _ in points)]), Axis([value for _, value in points if value])
        drawn.append(chart("mIoU on val, mean of the seeds", curves, along, up))
    return np.concatenate(drawn)


def _bars(found: Found) -> Image:
    """A line for each arm: a bar to its score, the interval of it, and a dot for each seed."""
    rows, height = found.rows, ABOVE + BAND * len(found.rows) + BELOW
    canvas = np.full((height, WIDTH, 3), 255, np.uint8)
    values = [value for row in rows for value in (row["low"], row["high"], *row["scores"].values())]
    axis = Axis(values if found.teacher is None else [*values, found.teacher])
    title = f"mIoU (%), 95 % intervals; gain over {found.baseline}"
    texts = [((LEFT, ABOVE / 2), title, "lm", INK)]
    bottom, names = height - BELOW, WIDTH - RIGHT + 16
    for value in axis.ticks():
        x = _x(axis, value)
        cv2.line(canvas, (x, ABOVE - 8), (x, bottom), FAINT, 1)
        texts.append(((x, bottom + 9), f"{value:.4g}", "mt", INK))
    if found.teacher is not None:
        x = _x(axis, found.teacher)
        cv2.line(canvas, (x, ABOVE - 8), (x, bottom), TEACHER, 2)
        texts.append(((x, bottom + 28), "teacher", "mt", TEACHER))
    for number, row in enumerate(rows):
        y, colour = ABOVE + BAND * number + BAND // 2, COLOURS[number % len(COLOURS)]
        pale = tuple(round(255 - 0.35 * (255 - part)) for part in colour)
        cv2.rectangle(canvas, (LEFT, y - 9), (_x(axis, row["miou"]), y + 9), pale, -1)
        cv2.line(canvas, (_x(axis, row["low"]), y), (_x(axis, row["high"]), y), colour, 2, cv2.LINE_AA)
        for end in (row["low"], row["high"]):
            cv2.line(canvas, (_x(axis, end), y - 5), (_x(axis, end), y + 5), colour, 2)
        for score in row["scores"].values():
            cv2.circle(canvas, (_x(axis, score), y), 4, colour, -1, cv2.LINE_AA)
        gain = "" if row["gain"] is None else f"  {row['gain']:+.2f}"
        texts.append(((names, y), f"{row['name']}  {row['miou']:.2f}{gain}", "lm", INK))
    return written(canvas, texts)


def _x(axis: Axis, value: float) -> int:
    return round(LEFT + axis.place(value) * (WIDTH - RIGHT - LEFT))
