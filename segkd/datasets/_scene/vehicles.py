"""Cars, vans and buses: a side profile drawn out over the width, turned to any heading."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segkd.datasets._scene.palette import CAR, EARTHS, GREYS, VIVID, Color, near, pick, shift
from segkd.datasets._scene.stage import Array, Ink, Stage

Profile = tuple[tuple[float, float], ...]
Outline = tuple[tuple[float, float, float], ...]
Part = tuple[Outline, Ink]
FAR = 45.0  # m, beyond which small parts are left out
CIRCLE = tuple((math.cos(k * math.pi / 7), math.sin(k * math.pi / 7)) for k in range(14))


@dataclass(frozen=True)
class Body:
    """Sizes in m, and shapes in fractions of them.

    profile: (along, up) from the rear sill over the roof to the front sill; glass: those of its edges that are
    windows; panes: side windows (along, along, up, up); wheel: its radius in m.
    """

    length: float
    width: float
    height: float
    profile: Profile
    glass: tuple[int, ...]
    panes: tuple[tuple[float, float, float, float], ...]
    wheel: float = 0.32


HATCH = Body(
    3.9, 1.72, 1.48, ((0, 0.2), (0, 0.6), (0.1, 0.97), (0.22, 1), (0.52, 1), (0.72, 0.64), (0.96, 0.54), (1, 0.2)),
    (1, 4), ((0.14, 0.36, 0.64, 0.93), (0.38, 0.6, 0.64, 0.93)),
)  # fmt: skip
SEDAN = Body(
    4.6, 1.8, 1.44, ((0, 0.2), (0, 0.64), (0.17, 0.67), (0.3, 1), (0.56, 1), (0.73, 0.66), (0.97, 0.56), (1, 0.2)),
    (2, 4), ((0.27, 0.43, 0.66, 0.93), (0.45, 0.63, 0.66, 0.93)),
)  # fmt: skip
ESTATE = Body(
    4.7, 1.84, 1.62, ((0, 0.22), (0, 0.62), (0.05, 0.98), (0.14, 1), (0.56, 1), (0.71, 0.66), (0.97, 0.58), (1, 0.22)),
    (1, 4), ((0.08, 0.24, 0.64, 0.93), (0.26, 0.43, 0.64, 0.93), (0.45, 0.62, 0.64, 0.93)), 0.36,
)  # fmt: skip
VAN = Body(
    5.2, 2.0, 2.3, ((0, 0.16), (0, 0.97), (0.03, 1), (0.7, 1), (0.83, 0.62), (0.98, 0.45), (1, 0.16)),
    (3,), ((0.6, 0.76, 0.58, 0.86),), 0.36,
)  # fmt: skip
BUS = Body(
    10.5, 2.5, 3.0, ((0, 0.12), (0, 0.98), (0.01, 1), (0.97, 1), (1, 0.94), (1, 0.12)), (4,),
    ((0.03, 0.18, 0.45, 0.85), (0.2, 0.36, 0.45, 0.85), (0.38, 0.54, 0.45, 0.85), (0.56, 0.72, 0.45, 0.85),
     (0.74, 0.9, 0.45, 0.85)), 0.48,
)  # fmt: skip
BODIES = (HATCH, HATCH, HATCH, SEDAN, SEDAN, SEDAN, ESTATE, ESTATE, VAN, BUS)


@dataclass
class Vehicle:
    """A vehicle whose centre is at (x, z); heading in radians, 0 drives away from the camera."""

    x: float
    z: float
    heading: float
    body: Body
    color: Color
    p: Sequence[float]

    @classmethod
    def random(cls, rng: np.random.Generator, x: float, z: float, heading: float) -> Vehicle:
        body = pick(rng, BODIES)
        paint = near(rng, pick(rng, (*GREYS, *GREYS, *VIVID, *EARTHS)))
        return cls(x, z + body.length / 2, heading, body, paint, rng.random(5).tolist())

    def world(self, points: Array) -> Array:
        """(n, 3) of (along in 0..1, up in 0..1, across in -1..1) -> world metres."""
        s, c = math.sin(self.heading), math.cos(self.heading)
        length, height, half = self.body.length, self.body.height, self.body.width / 2
        turn = np.array(((length * s, 0, length * c), (0, height, 0), (half * c, 0, -half * s)))
        out: Array = points @ turn
        out += (self.x - 0.5 * length * s, 0, self.z - 0.5 * length * c)
        np.maximum(out[:, 2], 0.8, out=out[:, 2])
        return out

    def footprint(self, grow: float, dx: float = 0.0, dz: float = 0.0) -> Array:
        corners = np.array(((0, 0, -grow), (1, 0, -grow), (1, 0, grow), (0, 0, grow)))
        ground: Array = self.world(corners)[:, (0, 2)] + (dx, dz)
        return ground

    def cast(self, stage: Stage) -> None:
        if stage.light.sunny:
            dx, dz = stage.light.cast(self.body.height)
            both = np.concatenate((self.footprint(1), self.footprint(0.8, dx, dz))).astype(np.float32)
            stage.shade(cv2.convexHull(both)[:, 0], stage.light.dark)
        stage.shade(self.footprint(1.08), 70)

    def draw(self, stage: Stage) -> None:
        """The surfaces across the vehicle, then the flank and the end that face the camera; all projected at once."""
        s, c = math.sin(self.heading), math.cos(self.heading)
        side = 1.0 if self.x * c - self.z * s < 0 else -1.0
        away = self.x * s + self.z * c  # > 0: seen from behind
        parts = self.shell(stage, s, c, away > 0)
        hull = len(parts)
        parts += self.flank(stage, side, stage.light.wall(side * c, -side * s))
        if abs(away) > 0.3 * math.hypot(self.x, self.z):
            parts += self.end(stage, away < 0)
        points = (stage.project(self.world(np.array([q for outline, _ in parts for q in outline]))) * 16).astype(
            np.int32
        )
        at = 0
        for k, (outline, ink) in enumerate(parts):
            corners = points[at : at + len(outline)]
            at += len(outline)
            if k >= hull or facing(corners):
                cv2.fillPoly(stage.pixels, [corners], ink, shift=4)

    def shell(self, stage: Stage, s: float, c: float, behind: bool) -> list[Part]:
        """Strips across the vehicle from one profile edge to the next, far ones first."""
        profile = self.body.profile
        parts: list[Part] = []
        edges = range(len(profile) - 1)
        for k in reversed(edges) if behind else edges:
            (a0, y0), (a1, y1) = profile[k], profile[k + 1]
            run, rise = abs(a1 - a0) * self.body.length, (y1 - y0) * self.body.height
            flat = run / math.hypot(run, rise)  # 1 on the roof, 0 on upright ends
            out = math.copysign(1.0, -rise)
            light = flat * (0.85 + 0.5 * stage.light.power) + (1 - flat) * stage.light.wall(out * s, out * c)
            paint = stage.ink(self.color, CAR, self.z, light)
            parts.append((((a0, y0, -1.0), (a1, y1, -1.0), (a1, y1, 1.0), (a0, y0, 1.0)), paint))
            if k in self.body.glass:
                b0, b1 = a0 + 0.1 * (a1 - a0), a1 - 0.1 * (a1 - a0)
                w0, w1 = y0 + 0.1 * (y1 - y0), y1 - 0.1 * (y1 - y0)
                pane = stage.ink(self.pane(), CAR, self.z, light)
                parts.append((((b0, w0, -0.86), (b1, w1, -0.82), (b1, w1, 0.82), (b0, w0, 0.86)), pane))
        return parts

    def pane(self) -> Color:
        g = 30 + 70 * self.p[0] * self.p[0]
        return (g, g * 1.05, g * 1.12)

    def flank(self, stage: Stage, side: float, light: float) -> list[Part]:
        """The side: body, sill, windows, wheels."""
        parts: list[Part] = [
            (tuple((a, y, side) for a, y in self.body.profile), stage.ink(self.color, CAR, self.z, light)),
            (box(0.02, 0.98, 0.2, 0.28, side), stage.ink(shift(self.color, -0.5), CAR, self.z, light)),
        ]
        if self.z > FAR:
            return parts
        pane, lean = stage.ink(self.pane(), CAR, self.z, light), 0.03 if self.body.length < 5 else 0.0
        parts += [(box(a0, a1, y0, y1, side, lean), pane) for a0, a1, y0, y1 in self.body.panes]
        for size, tone in ((1.0, 26.0), (0.6, 90 + 90 * self.p[1])):
            ink, r = stage.ink((tone, tone, tone), CAR, self.z, light), self.body.wheel
            rx, ry = size * r / self.body.length, size * r / self.body.height
            for a in (0.19, 0.81):
                wheel = tuple((a + rx * x, r / self.body.height + ry * y, 1.01 * side) for x, y in CIRCLE)
                parts.append((wheel, ink))
        return parts

    def end(self, stage: Stage, front: bool) -> list[Part]:
        """Lamps, plate, bumper and tyres of the front or the rear."""
        lamp, glow = (236.0, 232.0, 214.0) if front else (176.0, 40.0, 36.0), 0.9
        if stage.light.night or self.p[2] < 0.3:
            glow = 1.3
        y0, y1 = (0.42, 0.53) if self.body.height < 1.7 else (0.22, 0.32)
        plate = (214.0, 200.0, 120.0) if self.p[3] < 0.3 else (216.0, 216.0, 210.0)
        pieces = [
            (-0.95, -0.6, y0, y1, lamp, glow),
            (0.6, 0.95, y0, y1, lamp, glow),
            (-0.28, 0.28, 0.3, 0.38, plate, 0.9),
        ]
        pieces.append((-0.98, 0.98, 0.2, 0.27, (40.0, 40.0, 42.0), 1.0))
        pieces += [(a, a + 0.22, 0.0, 0.22, (26.0, 26.0, 28.0), 1.0) for a in (-0.95, 0.73)]
        if self.body.height > 2 and (front or self.p[4] < 0.5):
            pieces.append((-0.9, 0.9, 0.5, 0.88, self.pane(), 1.0))
        along = 1.005 if front else -0.005
        return [
            (
                ((along, low, a0), (along, low, a1), (along, high, a1), (along, high, a0)),
                stage.ink(color, CAR, self.z, light),
            )
            for a0, a1, low, high, color, light in pieces
        ]


def box(a0: float, a1: float, y0: float, y1: float, side: float, lean: float = 0.0) -> Outline:
    """A piece of a flank, narrower at the top by ``lean`` at both ends."""
    return (a0 - lean, y0, side), (a1 + lean, y0, side), (a1 - lean, y1, side), (a0 + lean, y1, side)


def facing(corners: NDArray[np.int32]) -> bool:
    """Whether a projected quad shows its outer face."""
    (x0, y0), (x1, y1), (x2, y2) = corners[:3].tolist()
    return bool((x1 - x0) * (y2 - y0) > (y1 - y0) * (x2 - x0))
