"""Trees with irregular crowns of leaves, hedges and bushes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from segkd.datasets._scene.noise import Floats, patch
from segkd.datasets._scene.palette import EARTHS, FOLIAGE, GREYS, LEAF, TRUNK, Color, near, pick, shift
from segkd.datasets._scene.stage import Stage, Stamp

CELL = 32  # crowns are shaped on a grid of this size, then enlarged
Box = tuple[float, float, float, float]
_AXIS = np.linspace(-1, 1, CELL, dtype=np.float32)
ACROSS, DOWN = np.meshgrid(_AXIS, _AXIS)
SQUARE = ACROSS**2 + DOWN**2
ROUND = np.linspace(0, 2 * np.pi, 12)
DISC = 0.5 * (1 - SQUARE)
SLAB = np.minimum(0.35, 2.2 * (1 - np.abs(DOWN))) - np.float32(0.1)
SHADES = np.linspace(0.3, 1.7, 256, dtype=np.float32)[:, None]


@lru_cache(maxsize=1)
def moulds() -> tuple[list[Floats], list[Floats], list[Floats]]:
    """Crowns, bushes and blocks: (32, 32, 2) of outline (positive inside) and brightness, lit from above and from the
    right; from a fixed seed, made once per process."""
    rng = np.random.Generator(np.random.PCG64(7))
    out: tuple[list[Floats], list[Floats], list[Floats]] = ([], [], [])
    for k in range(192):
        a, b, c, d, e, f, y, x = rng.random(8).tolist()
        blobs = ((0.0, 0.05, 0.85), (a - 0.5, 0.7 * b - 0.5, 0.6), (c - 0.5, 0.6 * d - 0.2, 0.6))
        outline = (crown(blobs), DISC + np.float32(0.12), SLAB)[max(0, k % 6 - 3)]
        lumps = patch("leaf", y, x, CELL * 2, CELL * 2)[::2, ::2].astype(np.float32) - 128
        tone = lumps * np.float32(0.55) - DOWN * np.float32(14 + 24 * e) + ACROSS * np.float32(16)
        out[max(0, k % 6 - 3)].append(np.dstack((outline + lumps * np.float32(0.004 + 0.004 * f), tone)))
    return out


def crown(blobs: Sequence[tuple[float, float, float]]) -> Floats:
    """(32, 32) union of round blobs (x, y, radius) in -1..1: 0.5 in a middle, 0 on the outline, negative outside."""
    out = np.full_like(SQUARE, -9)
    for x, y, r in blobs:
        far = SQUARE - (2 * x) * ACROSS - (2 * y) * DOWN  # the squared distance from the middle, less a constant
        np.maximum(out, 0.5 - (far + (x * x + y * y)) * (0.5 / (r * r)), out=out)
    return out


def foliage(stage: Stage, box: Box, color: Color, z: float, mould: Floats, p: Sequence[float]) -> None:
    """Leaves inside a box (u0, v0, u1, v1) of the canvas, shaped and shaded by ``mould`` (32, 32, 2).

    p: three numbers in 0..1 that choose which way it is turned and the noise of the leaves.
    """
    h, w = stage.shadow.shape
    u0, v0, u1, v1 = (int(b) for b in box)
    width, height = max(u1 - u0, 2), max(v1 - v0, 2)
    x0, x1, y0, y1 = max(u0, 0), min(u0 + width, w), max(v0, 0), min(v0 + height, h)
    if x1 <= x0 or y1 <= y0:
        return
    both = mould if stage.light.sun[0] * (p[0] - 0.35) > 0 else mould[:, ::-1]
    grown = grow(both, (width, height), (x0 - u0, y0 - v0, x1 - u0, y1 - v0))
    leaves = patch("rough", p[1], p[2], y1 - y0, x1 - x0).astype(np.float32)
    shape, tone = cv2.split(grown)
    mask = cv2.addWeighted(shape, 1.0, leaves, 0.0013, -0.326) > 0
    shade = cv2.convertScaleAbs(cv2.addWeighted(tone, 1.0, leaves, 0.45, 58.0))
    np.copyto(stage.words[y0:y1, x0:x1], leaf_words(stage, color, z)[shade], where=mask)


def select(options: list[Floats], share: float) -> Floats:
    return options[int(share * len(options))]


def grow(small: Floats, size: tuple[int, int], part: tuple[int, int, int, int]) -> Floats:
    """The part (x0, y0, x1, y1) of ``small`` enlarged to ``size`` = (width, height), without making the rest."""
    x0, y0, x1, y1 = part
    if (x1 - x0, y1 - y0) == size:
        return np.asarray(cv2.resize(small, size), np.float32)
    kx, ky = CELL / size[0], CELL / size[1]
    to_small = np.array([[kx, 0, (x0 + 0.5) * kx - 0.5], [0, ky, (y0 + 0.5) * ky - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out: Floats = cv2.warpAffine(small, to_small, (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return out


def leaf_words(stage: Stage, color: Color, z: float) -> NDArray[np.uint32]:
    """(256,) canvas words from dark to bright leaves, seen through the haze."""
    t = math.exp(-stage.light.fog * z)
    table = np.full((256, 4), LEAF, np.uint8)
    rgb = SHADES * np.array([c * t for c in color], np.float32)
    rgb += np.array([c * (1 - t) for c in stage.light.haze], np.float32)
    np.minimum(rgb, 255, out=rgb)
    table[:, :3] = rgb
    return table.view(np.uint32)[:, 0]


@dataclass
class Tree:
    """A tree of the given height at (x, z); ``clear``: height of the trunk below the crown, in m."""

    x: float
    z: float
    height: float
    clear: float
    color: Color
    bark: Color
    p: Sequence[float]

    @classmethod
    def random(cls, rng: np.random.Generator, x: float, z: float) -> Tree:
        height = rng.uniform(3.5, 11.0)
        clear = min(rng.uniform(1.2, 3.0), 0.45 * height)
        bark = near(rng, pick(rng, (*EARTHS[4:7], *GREYS[:4])))
        return cls(x, z, height, clear, near(rng, pick(rng, FOLIAGE), 0.25), bark, rng.random(11).tolist())

    def cast(self, stage: Stage) -> None:
        stage.contact(self.x, self.z, 0.4, 0.3)
        if stage.light.sunny:
            dx, dz = stage.light.cast(0.5 * (self.height + self.clear))
            r = 0.3 * self.height * (1 + 0.3 * np.sin(5 * ROUND + 6 * self.p[0]))
            stage.shade(
                np.stack((self.x + dx + r * np.cos(ROUND), self.z + dz + r * np.sin(ROUND)), 1), stage.light.dark
            )

    def draw(self, stage: Stage) -> None:
        p, top = self.p, self.clear + 0.35 * (self.height - self.clear)
        stamp = Stamp(stage, self.x, self.z, stage.light.wall(0, -1))
        lean, r = 0.5 * (p[6] - 0.5), 0.08 + 0.018 * self.height * (0.5 + p[7])
        r = max(r, 0.004 * self.z)
        trunk = ((-r, 0), (r, 0), (lean + 0.6 * r, top), (lean - 0.6 * r, top))
        stamp.poly(trunk, self.bark, TRUNK)
        stamp.limb(
            ((lean, self.clear * 0.9), (lean + 0.22 * self.height * (p[8] - 0.5) * 2, top + 0.5)), r, self.bark, TRUNK
        )
        half, tall = (0.22 + 0.2 * p[9]) * self.height, 0.5 * (self.height - self.clear)
        middle = stamp.v - (self.clear + tall) * stamp.scale
        half, tall = half * stamp.scale, tall * stamp.scale
        box = (stamp.u - half, middle - tall, stamp.u + half, middle + tall)
        foliage(stage, box, self.color, self.z, select(moulds()[0], p[10]), p)


@dataclass
class Bush:
    """A hedge, bush or line of far trees: a box of leaves, ``width`` m wide, facing the camera."""

    x: float
    z: float
    width: float
    height: float
    color: Color
    block: bool
    p: Sequence[float]

    def cast(self, stage: Stage) -> None:
        stage.contact(self.x, self.z, self.width / 2, 0.5)

    def draw(self, stage: Stage) -> None:
        stamp = Stamp(stage, self.x, self.z)
        half, s = self.width / 2, stamp.scale
        box = (stamp.u - half * s, stamp.v - self.height * s, stamp.u + half * s, stamp.v + 0.03 * s)
        foliage(stage, box, self.color, self.z, select(moulds()[2 if self.block else 1], self.p[3]), self.p)


@dataclass
class Hedge:
    """A clipped hedge along a ground line (x0, z0) -> (x1, z1), with a ragged top; p: 12 numbers in 0..1."""

    x0: float
    z0: float
    x1: float
    z1: float
    height: float
    color: Color
    p: Sequence[float]

    @property
    def z(self) -> float:
        return max(self.z0, self.z1) - 0.01

    def cast(self, stage: Stage) -> None:
        if stage.light.sunny:
            stage.shade_behind(((self.x0, self.z0), (self.x1, self.z1)), self.height)

    def draw(self, stage: Stage) -> None:
        t = np.linspace(0, 1, len(self.p))
        x, z = self.x0 + t * (self.x1 - self.x0), self.z0 + t * (self.z1 - self.z0)
        top = np.stack((x, self.height + 0.25 * (np.asarray(self.p) - 0.5), z), axis=1)
        foot = np.array(((self.x1, 0.0, self.z1), (self.x0, 0.0, self.z0)))
        outline = stage.project(np.concatenate((top, foot)))
        stage.fill(outline, stage.ink(self.color, LEAF, (self.z0 + self.z1) / 2, stage.light.wall(0, -1)))
        half = stage.project(np.concatenate((top * (1, 0.55, 1), foot)))
        stage.fill(half, stage.ink(shift(self.color, -0.2), LEAF, (self.z0 + self.z1) / 2, stage.light.wall(0, -1)))
