"""The log of a run as curves over its steps: losses per term, and the validation score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from segkd.report.pictures import Image

NO_LOSS = ("step", "lr", "seconds_per_step")  # of a line of the log that holds losses
WIDTH, HEIGHT = 1060, 380  # pixels of a chart
LEFT, RIGHT, TOP, BOTTOM = 84, 300, 48, 60  # pixels around its plot
INK, FAINT, MARK = (40, 40, 40), (225, 225, 225), 4
COLOURS = (
    (31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (23, 190, 207), (188, 189, 34), (127, 127, 127),
)  # fmt: skip
SPREAD = 20  # between the largest and the smallest loss, from which on the scale is logarithmic
SHIFT = 4  # bits of a pixel's fraction


class Curve(NamedTuple):
    """A name and its values (step, value); a value that is None, NaN or infinite is a gap."""

    name: str
    points: list[tuple[int, float | None]]

    def pieces(self, axis: Axis) -> list[list[tuple[int, float]]]:
        """The points without the gaps, in one piece for what lies between two."""
        found: list[list[tuple[int, float]]] = [[]]
        for step, value in self.points:
            if value is not None and math.isfinite(value) and (value > 0 or not axis.logarithmic):
                found[-1].append((step, value))
            elif found[-1]:
                found.append([])
        return [piece for piece in found if piece]


class Axis:
    """A scale from the least to the largest of some values.

    Args:
        values: finite numbers.
        logarithmic: leave out those that are not positive.
    """

    def __init__(self, values: Sequence[float], logarithmic: bool = False) -> None:
        self.logarithmic = logarithmic
        kept = [value for value in values if value > 0 or not logarithmic]
        low, high = (min(kept), max(kept)) if kept else (0.0, 1.0)
        if logarithmic:
            self.low, self.high = math.log10(low) - 0.03, math.log10(high) + 0.03
        else:
            room = 0.03 * (high - low) or max(0.05 * abs(high), 0.5)
            self.low, self.high = low - room, high + room

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the beginning of the axis, 1 at its end."""
        return ((math.log10(value) if self.logarithmic else value) - self.low) / (self.high - self.low)

    def ticks(self, integers: bool = False) -> list[float]:
        """Round values on the axis, about six, or fewer."""
        if self.logarithmic:
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            factors = (1, 2, 5) if self.high - self.low < 2.5 else (1,)
            found = [factor * 10.0**power for power in powers for factor in factors]
            return [value for value in found if 0 <= self.place(value) <= 1]
        apart = (self.high - self.low) / 6
        size = 10.0 ** math.floor(math.log10(apart))
        step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= apart)
        step = max(1.0, round(step)) if integers else step
        return [k * step for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def draw_curves(records: Iterable[Mapping[str, Any]], score: str) -> Image:
    """The lines of a run's log -> (H, W, 3) uint8 RGB: a chart of the losses, and one of ``score`` on validation.

    Args:
        records: {"step": ..., "loss": ..., names of terms: ...} and {"step": ..., "val": {score: ...}}, with "val_ema"
            for the averaged student; others are passed over.
        score: the score that chooses the best weights.
    """
    losses: dict[str, Curve] = {}
    scores = {"val": Curve(score, []), "val_ema": Curve(f"{score} of the average", [])}
    for record in records:
        if "loss" in record and "first_stage" not in record:
            for name in record:
                if name not in NO_LOSS:
                    losses.setdefault(name, Curve(name, [])).points.append((record["step"], record[name]))
        for key, curve in scores.items():
            if score in record.get(key, {}):
                curve.points.append((record["step"], record[key][score]))
    scored = [curve for curve in scores.values() if curve.points]
    steps = [step for curve in (*losses.values(), *scored) for step, _ in curve.points]
    along = Axis([0.0, *map(float, steps)])
    charts = [_losses(list(losses.values()), along)] if losses else []
    charts += [_scores(scored, along)] if scored else []
    if not charts:
        raise ValueError("the log holds neither losses nor scores")
    return np.concatenate(charts)


def _losses(curves: Sequence[Curve], along: Axis) -> Image:
    found = _values(curves)
    positive = [value for value in found if value > 0]
    logarithmic = bool(positive) and min(found) >= 0 and max(positive) > SPREAD * min(positive)
    title = "training loss and its weighted terms" + (", logarithmic" if logarithmic else "")
    return chart(title, curves, along, Axis(found, logarithmic))


def _scores(curves: Sequence[Curve], along: Axis) -> Image:
    known = [(value, step) for step, value in curves[0].points if value is not None and math.isfinite(value)]
    title = f"validation {curves[0].name}"
    if known:
        top, step = max(known, key=lambda pair: pair[0])
        title += f", best {top:.4g} at step {step}"
    return chart(title, curves, along, Axis(_values(curves)))


def _values(curves: Sequence[Curve]) -> list[float]:
    """All that are finite."""
    values = [value for curve in curves for _, value in curve.points]
    return [value for value in values if value is not None and math.isfinite(value)]


def chart(title: str, curves: Sequence[Curve], along: Axis, up: Axis) -> Image:
    """A title, a plot with both axes, and the curves' names with their last values beside it."""
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    texts: list[tuple[tuple[float, float], str, str, tuple[int, int, int]]] = [((LEFT, TOP / 2), title, "lm", INK)]
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value in up.ticks():
        y = _y(up, value)
        cv2.line(canvas, (LEFT, round(y)), (right, round(y)), FAINT, 1)
        texts.append(((LEFT - 8, y), f"{value:.4g}", "rm", INK))
    for value in along.ticks(integers=True):
        x = _x(along, value)
        cv2.line(canvas, (round(x), bottom), (round(x), bottom + 5), INK, 1)
        texts.append(((x, bottom + 9), f"{value:.0f}", "mt", INK))
    texts.append((((LEFT + right) / 2, HEIGHT - 14), "step", "mm", INK))
    cv2.line(canvas, (LEFT, TOP), (LEFT, bottom), INK, 1)
    cv2.line(canvas, (LEFT, bottom), (right, bottom), INK, 1)
    for number, curve in reversed(list(enumerate(curves))):  # the first one, the total, over the others
        colour = COLOURS[number % len(COLOURS)]
        pieces = curve.pieces(up)
        for piece in pieces:
            _draw(canvas, [(_x(along, step), _y(up, value)) for step, value in piece], colour)
        if number * 20 < bottom - TOP:
            y = TOP + 8 + 20 * number
            cv2.line(canvas, (right + 16, y), (right + 36, y), colour, 3, cv2.LINE_AA)
            last = f"  {pieces[-1][-1][1]:.4g}" if pieces else ""
            texts.append(((right + 44, y), _fitting(curve.name, 26) + last, "lm", INK))
    return written(canvas, texts)


def _fitting(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _x(along: Axis, step: float) -> float:
    return LEFT + along.place(step) * (WIDTH - RIGHT - LEFT)


def _y(up: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - up.place(value) * (HEIGHT - BOTTOM - TOP)


def _draw(canvas: Image, points: Sequence[tuple[float, float]], colour: tuple[int, int, int]) -> None:
    """A line through points; few of them are marked, so that one alone is seen, too."""
    placed = np.rint(np.array(points) * 2**SHIFT).astype(np.int32)
    cv2.polylines(canvas, [placed[:, None]], False, colour, 2, cv2.LINE_AA, SHIFT)
    if len(points) <= 30:
        for x, y in placed.tolist():
            cv2.circle(canvas, (x, y), MARK * 2**SHIFT, colour, -1, cv2.LINE_AA, SHIFT)


def written(canvas: Image, texts: Sequence[tuple[tuple[float, float], str, str, tuple[int, int, int]]]) -> Image:
    """The canvas with texts: where, what, how it is anchored there (as Pillow says), in which colour."""
    picture = Pillow.fromarray(canvas)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for where, text, anchor, colour in texts:
        pen.text(where, text, fill=colour, anchor=anchor, font=font)
    return np.asarray(picture)
