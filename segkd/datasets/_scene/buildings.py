"""Buildings: walls in perspective with windows, doors, shops, roofs, pipes, murals, and the shadow line of the sun."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segkd.datasets._scene.palette import (
    BRICK,
    EARTHS,
    FOLIAGE,
    GREENERY,
    GREYS,
    PLASTER,
    VIVID,
    WINDOW,
    Color,
    any_color,
    blend,
    near,
    pick,
    shift,
)
from segkd.datasets._scene.stage import Array, Ink, Stage

Point = tuple[float, float]
Box = tuple[float, float, float, float]
LOOKS = np.array([0, 0, 1, 0, 2, 0, 1, 1, 0, 0, 2, 0, 1, 0, 0, 1, 2, 0, 0] * 20)  # which of three panes a window has


@dataclass
class Style:
    """How the walls of one building look; ``p``: numbers in 0..1 that decide the details."""

    wall: Color
    surface: int
    frame: Color
    glass: tuple[Color, Color, Color]
    base: Color
    shop: Color
    storey: float
    pitch: float
    window: tuple[float, float]
    kind: str
    p: Sequence[float]

    @classmethod
    def random(cls, rng: np.random.Generator, haze: Color, night: bool) -> Style:
        surface = pick(
            rng, (PLASTER, PLASTER, PLASTER, BRICK, BRICK, GREENERY) if rng.random() < 0.4 else (PLASTER, BRICK)
        )
        color = pick(rng, {PLASTER: GREYS + EARTHS + VIVID, BRICK: EARTHS + GREYS, GREENERY: FOLIAGE}[surface])
        dark = near(rng, pick(rng, (GREYS[0], GREYS[1], VIVID[0], VIVID[14])))
        lamp = (255.0, 226.0, 150.0) if night else near(rng, pick(rng, EARTHS))
        kind = pick(rng, ("holes",) * 5 + ("bands", "curtain", "blank"))
        size = (rng.uniform(0.35, 0.7), rng.uniform(0.4, 0.68))
        frame = near(rng, pick(rng, (VIVID[13], VIVID[13], GREYS[1], EARTHS[6], VIVID[12])))
        glass = (dark, blend(dark, haze, rng.uniform(0.4, 0.95)), lamp)
        return cls(
            near(rng, color), surface, frame, glass, any_color(rng), any_color(rng), rng.uniform(2.8, 3.8),
            rng.uniform(1.8, 3.6), size, kind, rng.random(24).tolist(),
        )  # fmt: skip


class Wall:
    """A vertical rectangle over the ground line a -> b (x, z), ``height`` m high.

    What lies on it is collected as boxes (t0, t1, y0, y1), t in m along the wall, then projected at once and drawn in
    that order.
    """

    def __init__(self, stage: Stage, a: Point, b: Point, height: float, light: float) -> None:
        self.stage, self.a, self.b, self.height, self.light = stage, a, b, height, light
        self.length = max(0.1, math.hypot(b[0] - a[0], b[1] - a[1]))
        self.z = 0.6 * min(a[1], b[1]) + 0.4 * max(a[1], b[1])
        self.layers: list[tuple[Array | list[Box], Ink]] = []

    def boxes(self, boxes: Array | list[Box], color: Color, surface: int) -> None:
        if len(boxes):
            self.layers.append((boxes, self.stage.ink(color, surface, self.z, self.light)))

    def box(self, t0: float, t1: float, y0: float, y1: float, color: Color, surface: int) -> None:
        self.boxes([(t0, t1, y0, y1)], color, surface)

    def place(self, boxes: Array) -> NDArray[np.int32]:
        """(n, 4) boxes -> (n, 4, 2) canvas quads in sixteenths of a pixel."""
        t = boxes[:, (0, 1, 1, 0)] / self.length
        out = np.empty((len(boxes), 4, 3))
        out[..., 0] = self.a[0] + t * (self.b[0] - self.a[0])
        out[..., 1] = boxes[:, (2, 2, 3, 3)]
        out[..., 2] = self.a[1] + t * (self.b[1] - self.a[1])
        return (self.stage.project(out) * 16).astype(np.int32)

    def flush(self) -> None:
        """Draw what was collected."""
        quads = self.place(np.concatenate([boxes for boxes, _ in self.layers]))
        at = 0
        for boxes, ink in self.layers:
            cv2.fillPoly(self.stage.pixels, list(quads[at : at + len(boxes)]), ink, shift=4)
            at += len(boxes)


def grid(length: float, height: float, start: float, style: Style) -> Array:
    """(n, 4) cells (t0, t1, y0, y1) of the windows above ``start``."""
    columns = max(1, int(length / style.pitch))
    floors = max(0, int((height - start - 0.4) / style.storey))
    cell = length / columns
    w, h = style.window[0] * cell, style.window[1] * style.storey
    if style.kind == "bands":
        columns, cell, w = 1, length, length - 0.6
    out = np.empty((floors, columns, 4))
    out[..., 0] = (np.arange(columns) + 0.5) * cell - w / 2
    out[..., 1] = out[..., 0] + w
    out[..., 2] = (start + 0.28 * style.storey + style.storey * np.arange(floors))[:, None]
    out[..., 3] = out[..., 2] + h
    return out.reshape(-1, 4)


def facade(stage: Stage, a: Point, b: Point, height: float, style: Style, light: float, street: bool) -> None:
    """One wall with all its details; ``street``: it has a ground floor with doors or shops."""
    wall = Wall(stage, a, b, height, light)
    wall.box(0, wall.length, 0, height, style.wall, style.surface)
    courses(wall, style)
    start = 0.3
    if street:
        start = 0.9 * style.storey + 0.4
        ground_floor(wall, style, start)
    if street or style.p[0] > 0.5:
        windows(wall, style, start)
        trims(wall, style)
    else:
        mural(wall, style)
    wall.flush()
    if street and stage.light.sunny and light > 1.05 and style.p[1] < 0.75:
        shadow_line(wall, style)


def courses(wall: Wall, style: Style) -> None:
    """Rows of bricks or boards, near walls only."""
    if style.surface != BRICK or min(wall.a[1], wall.b[1]) > 25:
        return
    y = np.arange(0.25, min(wall.height, 9.0), 0.32)
    lines = np.stack((np.zeros_like(y), np.full_like(y, wall.length), y, y), axis=1)
    wall.boxes(lines + (0, 0, 0, 0.05), shift(style.wall, 0.18 if style.p[2] < 0.5 else -0.2), style.surface)


def windows(wall: Wall, style: Style, start: float) -> None:
    """Windows with frames, in one of four manners; each has one of three looks."""
    if style.kind == "blank" and style.p[3] < 0.6:
        return
    cells = grid(wall.length, wall.height, start, style)
    if not len(cells):
        return
    if style.kind == "curtain":
        cells = cells + np.array([-0.2, 0.2, -0.45, 0.25])
    rim = 0.1 + 0.1 * style.p[4]
    inner = cells + np.array([rim, -rim, rim, -rim])
    wall.boxes(cells, style.frame, WINDOW)
    look = LOOKS[int(40 * style.p[5]) : int(40 * style.p[5]) + len(cells)]
    for k, color in enumerate(style.glass):
        wall.boxes(inner[: len(look)][look == k], color, WINDOW)
    if style.p[7] < 0.6 and style.kind == "holes" and wall.z < 40:
        inner[:, 0] = (inner[:, 0] + inner[:, 1]) / 2 - 0.04
        inner[:, 1] = inner[:, 0] + 0.08
        wall.boxes(inner, style.frame, WINDOW)


def ground_floor(wall: Wall, style: Style, top: float) -> None:
    """A shop, or a plinth with doors."""
    if style.p[8] < 0.4:
        shop(wall, style, top)
        return
    if style.p[8] < 0.7:
        wall.box(0, wall.length, 0, 0.4 + 1.4 * style.p[9], style.base, PLASTER)
    doors = [1.0 + 2 * style.p[10] + 7.0 * k for k in range(1 + int((wall.length - 4.2) / 7))]
    wall.boxes([(t - 0.12, t + 1.12, 0.0, 2.3) for t in doors], style.frame, PLASTER)
    wall.boxes([(t, t + 1.0, 0.0, 2.15) for t in doors], style.shop, PLASTER)
    wall.boxes([(t + 2.2, t + 3.6, 1.0, 2.3) for t in doors if t + 4 < wall.length], style.glass[0], WINDOW)


def shop(wall: Wall, style: Style, top: float) -> None:
    """Large panes, and above them a board with letters, which could be taken for a traffic sign."""
    length = wall.length
    wall.box(0, length, 0, top - 0.5, style.base, PLASTER)
    bays = max(1, int(length / 4))
    bay = length / bays
    panes = [(k * bay + 0.3, (k + 1) * bay - 0.3, 0.5, top - 1.1) for k in range(bays)]
    wall.boxes(panes, style.glass[int(2.9 * style.p[9])], WINDOW)
    wall.box(0.4 * style.p[10] * length, length * (0.6 + 0.4 * style.p[11]), top - 1.0, top - 0.35, style.shop, PLASTER)
    if wall.z < 40:
        letters = [(t * length, t * length + 0.25, top - 0.85, top - 0.5) for t in (0.44, 0.48, 0.52, 0.56, 0.6)]
        wall.boxes(letters, style.frame, PLASTER)


def mural(wall: Wall, style: Style) -> None:
    """Blind end walls: nothing, painted fields, an advertisement, or leaves."""
    if style.p[9] < 0.45:
        return
    y0, y1 = wall.height * 0.3 * style.p[10], wall.height * (0.5 + 0.4 * style.p[11])
    green = style.p[9] < 0.7
    t0, t1 = wall.length * 0.3 * style.p[12], wall.length * (0.6 + 0.4 * style.p[13])
    wall.box(t0, t1, y0, y1, FOLIAGE[int(7 * style.p[14])] if green else style.shop, GREENERY if green else PLASTER)
    if not green:
        wall.box(t0 + 0.2 * (t1 - t0), t0 + 0.7 * (t1 - t0), y0 + 0.3, (y0 + y1) / 2, style.base, PLASTER)


def trims(wall: Wall, style: Style) -> None:
    """Cornice and drainpipes; a pipe looks like a pole, but belongs to the wall."""
    if style.p[15] < 0.6:
        wall.box(0, wall.length, wall.height - 0.35, wall.height, shift(style.wall, 0.5 * style.p[16] - 0.25), PLASTER)
    if style.p[17] < 0.5:
        t = wall.length * (0.05 + 0.9 * style.p[18])
        wall.box(t, t + 0.14, 0, wall.height, style.frame if style.p[19] < 0.5 else GREYS[1], PLASTER)
    if style.p[20] < 0.3 and wall.height > 6:
        t, floors = wall.length * 0.25, int((wall.height - 1) / style.storey - 0.25)
        y = [(k + 1.25) * style.storey for k in range(floors)]
        wall.boxes([(t, 3 * t, v, v + 0.9) for v in y], shift(style.base, -0.1), PLASTER)


def shadow_line(wall: Wall, style: Style) -> None:
    """Darken the lower part of a sunlit wall, which the houses opposite shade."""
    y0, y1 = wall.height * (0.15 + 0.5 * style.p[21]), wall.height * (0.15 + 0.5 * style.p[22])
    steps = np.array([[0, 0], [0, y0], [0.5, y0], [0.5, y1], [1, y1], [1, 0]])
    x = wall.a[0] + steps[:, 0] * (wall.b[0] - wall.a[0])
    z = wall.a[1] + steps[:, 0] * (wall.b[1] - wall.a[1])
    wall.stage.wash(wall.stage.project(np.stack((x, steps[:, 1], z), axis=1)), 1 - 0.4 * wall.stage.light.power)


@dataclass
class Building:
    """A house beside the street: its street wall runs from z0 to z1 at the offset ``s``; ``side`` is -1 or 1."""

    s: float
    z0: float
    z1: float
    side: int
    height: float
    depth: float
    roof: float
    style: Style
    open_end: bool = True  # whether the end wall towards the camera can be seen

    @property
    def z(self) -> float:
        return self.z1

    def corners(self, stage: Stage) -> tuple[Point, Point, Point]:
        """Ground corners: near and far end of the street wall, and the far end of the near side wall."""
        x0, x1 = stage.street(self.s, self.z0), stage.street(self.s, self.z1)
        return (x0, self.z0), (x1, self.z1), (x0 + self.side * self.depth, self.z0)

    def cast(self, stage: Stage) -> None:
        if stage.light.sunny:
            a, b, c = self.corners(stage)
            stage.shade_behind((a, b), self.height)
            stage.shade_behind((a, c), self.height)

    def draw(self, stage: Stage) -> None:
        a, b, c = self.corners(stage)
        (u0, _), (u1, _), width = stage.spot(a[0], 0, a[1]), stage.spot(b[0], 0, b[1]), stage.shadow.shape[1]
        if max(u0, u1) < 0 or min(u0, u1) > width:
            return  # beside the picture, and so is the end wall
        if self.roof:
            self.draw_roof(stage, a, b)
        if self.open_end:
            facade(stage, a, c, self.height, self.style, stage.light.wall(0, -1), False)
        facade(stage, a, b, self.height, self.style, stage.light.wall(-self.side, 0), True)

    def draw_roof(self, stage: Stage, a: Point, b: Point) -> None:
        """Draw two slopes with the ridge along the street, the gable over the end wall, a chimney."""
        h, top, k = self.height, self.height + self.roof, self.side * self.depth / 2
        color = shift(self.style.base, -0.3) if self.style.p[23] < 0.5 else (92.0, 66.0, 58.0)
        light = stage.light.wall(-0.7 * self.side, 0)
        near_z = min(a[1], b[1])
        slope = ((a[0], h, a[1]), (b[0], h, b[1]), (b[0] + k, top, b[1]), (a[0] + k, top, a[1]))
        stage.face(((a[0], h, a[1]), (a[0] + 2 * k, h, a[1]), (a[0] + k, top, a[1])),
                   stage.ink(self.style.wall, self.style.surface, near_z, stage.light.wall(0, -1)))  # fmt: skip
        stage.face(slope, stage.ink(color, BRICK, near_z, light))
        x, z = a[0] + k, a[1] + 0.5 * (b[1] - a[1])
        stack = ((x - 0.4, top - 0.3, z), (x + 0.4, top - 0.3, z), (x + 0.4, top + 1.2, z), (x - 0.4, top + 1.2, z))
        stage.face(stack, stage.ink(self.style.wall, BRICK, z, 0.9))


@dataclass
class Block:
    """A house that closes the view: its wall faces the camera, from x0 to x1 at depth z."""

    x0: float
    x1: float
    z: float
    height: float
    style: Style

    def cast(self, stage: Stage) -> None:
        if stage.light.sunny:
            stage.shade_behind(((self.x0, self.z), (self.x1, self.z)), self.height)

    def draw(self, stage: Stage) -> None:
        facade(
            stage, (self.x0, self.z), (self.x1, self.z), self.height, self.style, stage.light.wall(0, -1), self.z < 90
        )
