"""Pedestrians and cyclists with moving limbs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segkd.datasets._scene.palette import CYCLE, PERSON, SKINS, Color, any_color, near, pick, shift
from segkd.datasets._scene.stage import Stage, Stamp

DISC = np.array([(math.cos(k * math.pi / 7), math.sin(k * math.pi / 7)) for k in range(14)])
HAIR: tuple[Color, ...] = ((36, 30, 28), (66, 48, 36), (110, 80, 50), (150, 150, 148), (190, 160, 110), (60, 60, 64))


@dataclass
class Clothes:
    """Colours of one person."""

    skin: Color
    hair: Color
    top: Color
    legs: Color
    bag: Color

    @classmethod
    def random(cls, rng: np.random.Generator) -> Clothes:
        return cls(near(rng, pick(rng, SKINS)), pick(rng, HAIR), any_color(rng), any_color(rng), any_color(rng))


def bend(start: tuple[float, float], upper: float, lower: float, a: float, b: float) -> tuple[tuple[float, float], ...]:
    """Two joined limbs from ``start`` downwards, at the angles a and b from the vertical."""
    x, y = start
    knee = (x + upper * math.sin(a), y - upper * math.cos(a))
    return start, knee, (knee[0] + lower * math.sin(b), knee[1] - lower * math.cos(b))


@dataclass
class Pedestrian:
    """A person ``height`` m tall at (x, z), seen from the side while walking, or from the front or back."""

    x: float
    z: float
    height: float
    clothes: Clothes
    p: Sequence[float]

    @classmethod
    def random(cls, rng: np.random.Generator, x: float, z: float) -> Pedestrian:
        height = rng.uniform(1.55, 1.9) if rng.random() < 0.88 else rng.uniform(0.95, 1.4)
        return cls(x, z, height, Clothes.random(rng), rng.random(12).tolist())

    def cast(self, stage: Stage) -> None:
        if stage.light.sunny:
            stage.shade_behind(((self.x - 0.22, self.z), (self.x + 0.22, self.z)), self.height)
        stage.contact(self.x, self.z, 0.3, 0.2)

    def draw(self, stage: Stage) -> None:
        p, h, wear = self.p, self.height, self.clothes
        stamp = Stamp(stage, self.x, self.z, stage.light.wall(0, -1))
        aside = p[0] < 0.5
        flip = 1 if p[1] < 0.5 else -1
        swing = (0.5 if aside else 0.12) * math.sin(6.3 * p[2]) * flip
        half = (0.085 if aside else 0.125) * h * (1 + 0.35 * p[3])
        self.draw_legs(stamp, swing, 0.03 * h if aside else 0.06 * h, flip)
        arm = 0.11 + 0.03 * p[4]
        for k, sign in enumerate((-1, 1)):
            shoulder = (sign * (0.25 if aside else 0.95) * half, 0.8 * h)
            path = bend(
                shoulder,
                0.17 * h,
                0.17 * h,
                sign * swing * 0.9 + (0 if aside else 0.12 * sign),
                sign * swing + 0.3 * flip * p[5],
            )
            stamp.limb(path, arm, shift(wear.top, -0.12 - 0.1 * k), PERSON)
            stamp.oval(*path[-1], 0.05, 0.06, wear.skin, PERSON)
        hem = (0.3 if p[6] < 0.3 else 0.46) * h  # a coat or skirt, or trousers
        wide = half * (1.15 if p[6] < 0.3 else 0.9)
        torso = (
            (-wide, hem),
            (wide, hem),
            (half * 0.85, 0.62 * h),
            (half, 0.79 * h),
            (half * 0.6, 0.84 * h),
            (-half * 0.6, 0.84 * h),
            (-half, 0.79 * h),
            (-half * 0.85, 0.62 * h),
        )
        stamp.poly(torso, wear.top, PERSON)
        if p[7] < 0.35:
            stamp.rect(-flip * half * 1.5, 0.55 * h, -flip * half * 0.3, 0.78 * h, wear.bag, PERSON)
        elif p[7] < 0.55:
            stamp.rect(flip * half * 0.9, 0.3 * h, flip * half * 0.9 + 0.25, 0.44 * h, wear.bag, PERSON)
        self.draw_head(stamp, aside, flip)

    def draw_legs(self, stamp: Stamp, swing: float, apart: float, flip: int) -> None:
        h, wear = self.height, self.clothes
        thick = 0.085 * h
        bare = self.p[8] < 0.12
        for sign in (-1, 1):
            a = sign * swing
            path = bend((sign * apart, 0.5 * h), 0.25 * h, 0.23 * h, a, a - 0.35 * abs(swing) * flip)
            stamp.limb(path, thick, shift(wear.skin if bare else wear.legs, 0.06 * sign), PERSON)
            foot = path[-1]
            stamp.limb((foot, (foot[0] + 0.09 * flip, max(0.02, foot[1] - 0.02))), 0.08, shift(wear.bag, -0.5), PERSON)

    def draw_head(self, stamp: Stamp, aside: bool, flip: int) -> None:
        h, wear = self.height, self.clothes
        r = 0.062 * max(h, 1.4)
        y = h - 1.1 * r
        stamp.limb(((0, 0.8 * h), (0, y)), 0.09, wear.skin, PERSON)
        stamp.oval(0, y + 0.15 * r, r, 1.2 * r, wear.hair, PERSON)
        if aside or self.p[9] < 0.5:
            stamp.oval(0.35 * r * flip if aside else 0, y - 0.2 * r, 0.75 * r, 0.9 * r, wear.skin, PERSON)
        if self.p[10] < 0.06:  # an umbrella
            stamp.poly(((-0.6, h + 0.15), (-0.3, h + 0.4), (0.3, h + 0.4), (0.6, h + 0.15)), wear.bag, PERSON)


@dataclass
class Cyclist:
    """A rider on a bicycle at (x, z); ``turn``: cosine of its angle to the image plane, signed."""

    x: float
    z: float
    turn: float
    clothes: Clothes
    p: Sequence[float]

    @classmethod
    def random(cls, rng: np.random.Generator, x: float, z: float, across: bool) -> Cyclist:
        turn = rng.uniform(0.6, 1.0) if across else rng.uniform(0.2, 0.5)
        return cls(x, z, turn if rng.random() < 0.5 else -turn, Clothes.random(rng), rng.random(8).tolist())

    def cast(self, stage: Stage) -> None:
        r = 0.15 + 0.75 * abs(self.turn)
        stage.contact(self.x, self.z, r, 0.15)
        if stage.light.sunny:
            stage.shade_behind(((self.x - r / 2, self.z), (self.x + r / 2, self.z)), 1.5)

    def draw(self, stage: Stage) -> None:
        stamp = Stamp(stage, self.x, self.z, stage.light.wall(0, -1))
        c = self.turn
        dark = (34.0 + 30 * self.p[0],) * 3
        rx = 0.34 * abs(c) + 0.03
        for wheel in (-0.52, 0.52):
            self.draw_wheel(stage, stamp, wheel * c, rx, dark)
        frame = shift(self.clothes.bag, -0.05)
        seat, crank, head = (-0.2 * c, 0.85), (0.0, 0.3), (0.4 * c, 0.85)
        for a, b in ((seat, crank), (crank, head), (seat, head), (seat, (-0.52 * c, 0.34)), (head, (0.52 * c, 0.34))):
            stamp.limb((a, b), 0.07, frame, CYCLE)
        grip = 0.28 * math.sqrt(1 - c * c)
        stamp.limb(((0.42 * c - grip, 1.05), (0.42 * c + grip, 1.05)), 0.06, dark, CYCLE)
        self.draw_rider(stamp, c, grip)

    def draw_wheel(self, stage: Stage, stamp: Stamp, x: float, rx: float, dark: Color) -> None:
        """Spokes let the background through, but the disc belongs to the cyclist."""
        disc = DISC * (rx, 0.34) + (x, 0.34)
        pixels = disc * (stamp.scale, -stamp.scale) + (stamp.u, stamp.v)
        stage.wash(pixels, 0.75, (12.0, 12.0, 12.0, CYCLE))
        stamp.oval(x, 0.34, rx, 0.34, dark, CYCLE, rim=0.07)

    def draw_rider(self, stamp: Stamp, c: float, grip: float) -> None:
        p, wear = self.p, self.clothes
        hip, shoulder, hand = (-0.18 * c, 0.98), ((0.05 + 0.25 * p[1]) * c, 1.45), (0.42 * c, 1.06)
        broad = 0.12 + 0.1 * math.sqrt(1 - c * c)
        for sign in (-1, 1):
            phase = 6.3 * p[2] + (math.pi if sign > 0 else 0)
            foot = (0.17 * math.cos(phase) * c + sign * 0.08 * (1 - abs(c)), 0.3 + 0.17 * math.sin(phase))
            knee = ((hip[0] + foot[0]) / 2 + 0.26 * c, (hip[1] + foot[1]) / 2 + 0.08)
            off = sign * 0.1 * (1 - abs(c))
            stamp.limb(
                ((hip[0] + off, hip[1]), (knee[0] + off, knee[1]), foot), 0.14, shift(wear.legs, 0.08 * sign), CYCLE
            )
        body = (
            (hip[0] - broad, hip[1] - 0.05),
            (hip[0] + broad, hip[1] - 0.05),
            (shoulder[0] + broad * 1.1, shoulder[1]),
            (shoulder[0] - broad * 1.1, shoulder[1]),
        )
        stamp.poly(body, wear.top, CYCLE)
        for sign in (-1, 1):
            start = (shoulder[0] + sign * broad * (1 - abs(c)), shoulder[1] - 0.05)
            stamp.limb((start, (hand[0] + sign * grip, hand[1])), 0.1, shift(wear.top, -0.15), CYCLE)
        head = (shoulder[0] + 0.1 * c, shoulder[1] + 0.2)
        stamp.oval(*head, 0.1, 0.13, wear.skin, CYCLE)
        stamp.oval(head[0] - 0.03 * c, head[1] + 0.05, 0.11, 0.1, wear.bag if p[3] < 0.6 else wear.hair, CYCLE)
