"""Street furniture: lamp posts, signs, traffic lights, gantries, fences and railings, and things of no class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segkd.datasets._scene.palette import FENCE, GREYS, POLE, SIGN, THING, VIVID, Color, any_color, near, pick, shift
from segkd.datasets._scene.stage import Stage, Stamp

RED, BLUE, GREEN = (172.0, 36.0, 40.0), (44.0, 84.0, 160.0), (36.0, 110.0, 78.0)
YELLOW, WHITE, BLACK = (214.0, 176.0, 50.0), (224.0, 224.0, 220.0), (34.0, 34.0, 36.0)


def pole_color(rng: np.random.Generator) -> Color:
    return near(rng, pick(rng, (*GREYS[:5], VIVID[4], VIVID[14], (96, 74, 56))))


def thick(width: float, z: float) -> float:
    """Width in m of a thin thing, never below what can be seen and labelled at that distance."""
    return max(width, 0.0055 * z)


def pole_shadow(stage: Stage, x: float, z: float, height: float) -> None:
    if stage.light.sunny:
        stage.shade_behind(((x - 0.08, z), (x + 0.08, z)), height)


@dataclass
class Pole:
    """A lamp post, a mast or a bollard; ``arm``: length of its arm over the road, signed, 0 for none."""

    x: float
    z: float
    height: float
    width: float
    arm: float
    color: Color
    p: Sequence[float]

    @classmethod
    def random(cls, rng: np.random.Generator, x: float, z: float, side: int) -> Pole:
        arm = -side * rng.uniform(0.8, 2.2) if rng.random() < 0.6 else 0.0
        return cls(x, z, rng.uniform(4.5, 9.0), rng.uniform(0.12, 0.24), arm, pole_color(rng), rng.random(4).tolist())

    @classmethod
    def bollard(cls, rng: np.random.Generator, x: float, z: float) -> Pole:
        return cls(
            x, z, rng.uniform(0.8, 1.1), rng.uniform(0.12, 0.2), 0.0, pole_color(rng), (0.1 * rng.random(4)).tolist()
        )

    def cast(self, stage: Stage) -> None:
        pole_shadow(stage, self.x, self.z, self.height)

    def draw(self, stage: Stage) -> None:
        stamp, r = Stamp(stage, self.x, self.z, stage.light.wall(-0.5, -0.7)), thick(self.width, self.z) / 2
        stamp.rect(-r, 0, r, self.height, self.color, POLE)
        if self.height < 2:
            stamp.rect(-r, 0.8 * self.height, r, 0.9 * self.height, WHITE, POLE)
            return
        stamp.rect(-1.4 * r, 0, 1.4 * r, 0.9, shift(self.color, -0.1), POLE)
        if self.arm:
            top = self.height
            stamp.limb(((0, top), (0.4 * self.arm, top + 0.35), (self.arm, top + 0.4)), 1.4 * r, self.color, POLE)
            stamp.oval(self.arm, top + 0.36, 0.4, max(0.12, r), shift(self.color, 0.3), POLE)
        elif self.p[0] < 0.5:
            stamp.oval(0, self.height, 0.26, 0.3, shift(WHITE, -0.15), POLE)


def plate(stamp: Stamp, x: float, y: float, size: float, kind: int, color: Color, surface: int) -> None:
    """One traffic sign centred at (x, y): round, triangle, square, panel with lines, octagon, or its grey back."""
    r = size / 2
    if kind == 0:
        stamp.oval(x, y, r, r, RED, surface)
        stamp.oval(x, y, 0.72 * r, 0.72 * r, WHITE, surface)
        stamp.rect(x - 0.3 * r, y - 0.3 * r, x + 0.3 * r, y + 0.3 * r, BLACK, surface)
    elif kind == 1:
        stamp.poly(((x - r, y - 0.85 * r), (x + r, y - 0.85 * r), (x, y + 0.9 * r)), RED, surface)
        stamp.poly(((x - 0.6 * r, y - 0.6 * r), (x + 0.6 * r, y - 0.6 * r), (x, y + 0.45 * r)), WHITE, surface)
    elif kind == 2:
        stamp.oval(x, y, r, r, BLUE, surface)
        stamp.rect(x - 0.15 * r, y - 0.6 * r, x + 0.15 * r, y + 0.6 * r, WHITE, surface)
    elif kind == 3:
        stamp.rect(x - r, y - r, x + r, y + r, color, surface)
        stamp.rect(x - 0.6 * r, y - 0.1 * r, x + 0.6 * r, y + 0.1 * r, WHITE, surface)
    elif kind == 4:
        stamp.rect(x - 1.3 * r, y - 0.75 * r, x + 1.3 * r, y + 0.75 * r, color, surface)
        for k in (0.35, -0.05, -0.45):
            stamp.rect(x - r, y + k * r, x + 0.7 * r, y + (k + 0.18) * r, WHITE if sum(color) < 480 else BLACK, surface)
    else:
        stamp.oval(x, y, r, r, (128.0, 128.0, 130.0), surface)


@dataclass
class TrafficSign:
    """One or two plates on a pole."""

    x: float
    z: float
    height: float
    size: float
    kinds: tuple[int, ...]
    color: Color
    pole: Color

    @classmethod
    def random(cls, rng: np.random.Generator, x: float, z: float) -> TrafficSign:
        kinds = tuple(int(6 * k) for k in rng.random(1 if rng.random() < 0.6 else 2))
        color = near(rng, pick(rng, (BLUE, GREEN, YELLOW, WHITE, RED, BLACK)), 0.2)
        return cls(x, z, rng.uniform(2.1, 3.0), rng.uniform(0.6, 1.05), kinds, color, pole_color(rng))

    def cast(self, stage: Stage) -> None:
        pole_shadow(stage, self.x, self.z, self.height)

    def draw(self, stage: Stage) -> None:
        stamp, r = Stamp(stage, self.x, self.z, stage.light.wall(0, -1)), thick(0.09, self.z) / 2
        top = self.height + self.size * len(self.kinds)
        stamp.rect(-r, 0, r, top, self.pole, POLE)
        for k, kind in enumerate(self.kinds):
            plate(stamp, 0, self.height + self.size * (k + 0.5), self.size, kind, self.color, SIGN)


@dataclass
class TrafficLight:
    """A signal on a pole, or hung over the road from an arm of ``arm`` m (signed)."""

    x: float
    z: float
    arm: float
    color: Color
    p: Sequence[float]

    @classmethod
    def random(cls, rng: np.random.Generator, x: float, z: float, side: int) -> TrafficLight:
        arm = -side * rng.uniform(1.5, 3.5) if rng.random() < 0.35 else 0.0
        return cls(x, z, arm, pole_color(rng), rng.random(4).tolist())

    def cast(self, stage: Stage) -> None:
        pole_shadow(stage, self.x, self.z, 3.0)

    def draw(self, stage: Stage) -> None:
        stamp, r = Stamp(stage, self.x, self.z, stage.light.wall(0, -1)), thick(0.13, self.z) / 2
        heads = [(0.0, 2.3)]
        stamp.rect(-r, 0, r, 5.4 if self.arm else 2.6, self.color, POLE)
        if self.arm:
            stamp.limb(((0, 5.3), (self.arm, 5.45)), 2 * r, self.color, POLE)
            heads.append((self.arm, 4.7))
        lit = int(3 * self.p[0])
        case = (40.0, 42.0, 42.0) if self.p[1] < 0.7 else (180.0, 150.0, 50.0)
        for x, y in heads:
            stamp.rect(x - 0.21, y, x + 0.21, y + 1.05, case, SIGN)
            for k, color in enumerate(((60, 180, 90), (220, 170, 50), (210, 44, 40))):
                tone = color if k == lit else (70.0, 66.0, 64.0)
                stamp.oval(x, y + 0.2 + 0.33 * k, 0.12, 0.12, tone, SIGN, 1.2 if k == lit else 1.0)


@dataclass
class Gantry:
    """A large direction panel on two posts, beside or above the road."""

    x: float
    z: float
    width: float
    height: float
    bottom: float
    color: Color
    pole: Color

    @classmethod
    def random(cls, rng: np.random.Generator, x: float, z: float, overhead: bool) -> Gantry:
        color = near(rng, pick(rng, (BLUE, GREEN, WHITE, YELLOW)), 0.2)
        low = rng.uniform(4.6, 5.4) if overhead else rng.uniform(1.6, 2.4)
        return cls(
            x,
            z,
            rng.uniform(2.6, 5.0) if overhead else rng.uniform(1.2, 2.4),
            rng.uniform(0.9, 1.8),
            low,
            color,
            pole_color(rng),
        )

    def cast(self, stage: Stage) -> None:
        pole_shadow(stage, self.x, self.z, self.bottom)

    def draw(self, stage: Stage) -> None:
        stamp, r = Stamp(stage, self.x, self.z, stage.light.wall(0, -1)), thick(0.14, self.z) / 2
        w, y0, y1 = self.width / 2, self.bottom, self.bottom + self.height
        posts = (0.9 * w,) if self.bottom > 4 else (-0.8 * w, 0.8 * w)
        for x in posts:
            stamp.rect(x - r, 0, x + r, y1, self.pole, POLE)
        text = WHITE if sum(self.color) < 480 else BLACK
        stamp.rect(-w, y0, w, y1, self.color, SIGN)
        for k in (0.2, 0.45, 0.7):
            stamp.rect(-0.8 * w, y0 + k * self.height, (k - 0.1) * w, y0 + (k + 0.12) * self.height, text, SIGN)


@dataclass
class Fence:
    """A fence along a ground line (x0, z0) -> (x1, z1): boards, bars, mesh, a low wall with bars, or a guard rail."""

    x0: float
    z0: float
    x1: float
    z1: float
    height: float
    kind: int
    color: Color
    tone: float

    @property
    def z(self) -> float:
        return max(self.z0, self.z1) - 0.01

    def cast(self, stage: Stage) -> None:
        if stage.light.sunny:
            stage.shade_behind(((self.x0, self.z0), (self.x1, self.z1)), self.height * (1.0 if self.kind == 0 else 0.4))

    def quad(self, y0: float, y1: float) -> tuple[tuple[float, float, float], ...]:
        return (self.x0, y0, self.z0), (self.x1, y0, self.z1), (self.x1, y1, self.z1), (self.x0, y1, self.z0)

    def draw(self, stage: Stage) -> None:
        n = np.array((self.z1 - self.z0, self.x0 - self.x1)) / max(0.1, np.hypot(self.x1 - self.x0, self.z1 - self.z0))
        light = stage.light.wall(*(n if n @ (self.x0, self.z0) < 0 else -n))
        mid = (self.z0 + self.z1) / 2
        ink = stage.ink(self.color, FENCE, mid, light)
        bottom = 0.35 if self.kind == 4 else 0.0
        if self.kind == 0:
            stage.face(self.quad(0, self.height), ink)
            self.bars(stage, 0.3, 0.03, stage.ink(shift(self.color, -0.3), FENCE, mid, light), 0.0)
            return
        keep = 1 - 0.25 * self.tone
        veil = (ink[0] * (1 - keep), ink[1] * (1 - keep), ink[2] * (1 - keep), FENCE)  # the gaps are fence too
        stage.wash(stage.project(self.quad(bottom, self.height)), keep, veil)
        self.bars(stage, (0.0, 0.22, 0.12, 0.25, 2.0)[self.kind], 0.045, ink, bottom)
        rails = {1: (0.1, 0.95), 2: (0.0, 0.95), 3: (0.0, 0.9), 4: (0.55, 0.8)}[self.kind]
        for y in rails:
            stage.face(self.quad(y * self.height, y * self.height + 0.07), ink)
        if self.kind == 3:
            stage.face(self.quad(0, 0.4 * self.height), stage.ink(shift(self.color, 0.25), FENCE, mid, light))

    def bars(self, stage: Stage, pitch: float, width: float, ink: tuple[float, float, float, int], y0: float) -> None:
        """Upright bars every ``pitch`` m."""
        count = max(2, int(np.hypot(self.x1 - self.x0, self.z1 - self.z0) / pitch))
        t = np.arange(count + 1) / count
        x, z = self.x0 + t * (self.x1 - self.x0), self.z0 + t * (self.z1 - self.z0)
        low = np.stack((x, 0 * x + y0, z), axis=1)
        high = np.stack((x, 0 * x + self.height, z), axis=1)
        stage.lines(
            stage.project(np.stack((low, high), axis=1)), ink, max(1, int(width * stage.focal / float(z.mean())))
        )


@dataclass
class Thing:
    """What belongs to no class: bins, boxes, cones, dogs, benches."""

    x: float
    z: float
    kind: int
    color: Color
    p: Sequence[float]

    @classmethod
    def random(cls, rng: np.random.Generator, x: float, z: float) -> Thing:
        return cls(x, z, int(5 * rng.random()), any_color(rng), rng.random(4).tolist())

    def cast(self, stage: Stage) -> None:
        stage.contact(self.x, self.z, 0.35, 0.3)

    def draw(self, stage: Stage) -> None:
        stamp, c = Stamp(stage, self.x, self.z, stage.light.wall(0, -1)), self.color
        if self.kind == 0:
            stamp.poly(((-0.25, 0), (0.25, 0), (0.3, 0.95), (-0.3, 0.95)), c, THING)
            stamp.rect(-0.34, 0.93, 0.34, 1.08, shift(c, -0.25), THING)
        elif self.kind == 1:
            stamp.poly(((-0.22, 0), (0.22, 0), (0.05, 0.7), (-0.05, 0.7)), (206.0, 88.0, 40.0), THING)
            stamp.poly(((-0.15, 0.22), (0.15, 0.22), (0.1, 0.42), (-0.1, 0.42)), WHITE, THING)
        elif self.kind == 2:
            stamp.rect(-0.32, 0.3, 0.26, 0.52, c, THING)
            stamp.oval(0.36, 0.56, 0.12, 0.1, shift(c, -0.1), THING)
            for x in (-0.28, -0.16, 0.12, 0.22):
                stamp.limb(((x, 0.34), (x + 0.06 * (self.p[0] - 0.5), 0)), 0.07, c, THING)
        elif self.kind == 3:
            stamp.rect(-0.8, 0.4, 0.8, 0.5, c, THING)
            stamp.rect(-0.8, 0.6, 0.8, 0.9, shift(c, -0.1), THING)
            for x in (-0.7, 0.6):
                stamp.rect(x, 0, x + 0.1, 0.45, BLACK, THING)
        else:
            stamp.rect(-0.3, 0, 0.3, 1.3, c, THING)
            stamp.rect(-0.22, 0.9, 0.22, 1.1, shift(c, -0.5), THING)
