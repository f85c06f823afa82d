"""Camera, light and canvas of one scene: all that an object needs to draw itself.

World coordinates in metres: x to the right, y up from the road, z ahead; the camera stands at x = z = 0. Nothing here
knows the size of the image except the camera's matrix, so the same scene at another size is the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segkd.datasets._scene.palette import Color

SCALE = 2  # the canvas is twice the image: drawn without anti-aliasing, then averaged down
Array = NDArray[np.float64]
Ink = tuple[float, float, float, int]
Spot = tuple[float, float]


@dataclass(frozen=True)
class Camera:
    """focal: in units of sqrt(2 H W), which is the width at 2:1; cx, horizon: fractions of width and height;
    height in m; roll in radians; bend: the street's centre line is x = bend * z**2."""

    focal: float
    cx: float
    horizon: float
    height: float
    roll: float
    bend: float

    def matrix(self, height: int, width: int) -> tuple[Array, Array]:
        """(A, b) with homogeneous pixel (u w, v w, w) = A (x, y, z) + b; pixel centres are integers."""
        f = self.focal * math.sqrt(2.0 * height * width)
        c, s = math.cos(self.roll), math.sin(self.roll)
        mx, my = width / 2, height / 2
        roll = np.array([[c, -s, mx - c * mx + s * my - 0.5], [s, c, my - s * mx - c * my - 0.5], [0, 0, 1]])
        pinhole = np.array([[f, 0, self.cx * width], [0, -f, self.horizon * height], [0, 0, 1]])
        return roll @ pinhole, roll @ np.array([0.0, f * self.height, 0.0])


@dataclass(frozen=True)
class Light:
    """sun: unit vector to the sun; power: 0 (overcast) to 1; haze: colour; fog: density per metre."""

    sun: tuple[float, float, float]
    power: float
    haze: Color
    fog: float
    night: bool = False

    def wall(self, nx: float, nz: float) -> float:
        """Brightness of an upright surface whose horizontal normal is (nx, nz)."""
        return 1.0 - 0.42 * self.power + 0.62 * self.power * max(0.0, nx * self.sun[0] + nz * self.sun[2])

    @property
    def sunny(self) -> bool:
        """Whether things throw shadows."""
        return self.power > 0.25

    @property
    def dark(self) -> int:
        """Brightness in a shadow, of 255."""
        return 255 - int(125 * self.power)

    def cast(self, height: float) -> tuple[float, float]:
        """Where the shadow of a point at this height falls, relative to its foot: (dx, dz) in m."""
        k = -height / self.sun[1]
        return k * self.sun[0], k * self.sun[2]


class Stage:
    """A canvas (h, w, 4) uint8 whose first three channels are RGB and whose fourth is the surface id."""

    def __init__(self, camera: Camera, light: Light, height: int, width: int) -> None:
        self.camera, self.light = camera, light
        h, w = height * SCALE, width * SCALE
        self.pixels: NDArray[np.uint8] = np.zeros((h, w, 4), np.uint8)
        self.words = self.pixels.view(np.uint32)[..., 0]  # colour and id of a pixel as one number
        self._shades: list[tuple[Array, int]] = []
        self.shadow: NDArray[np.uint8] = np.full((h, w), 255, np.uint8)
        a, self._b = camera.matrix(h, w)
        self._a = np.ascontiguousarray(a.T)
        self._rows = [(*map(float, row), float(k)) for row, k in zip(a, self._b, strict=True)]
        self.focal = camera.focal * math.sqrt(2.0 * h * w)

    def street(self, s: float, z: float) -> float:
        """World x of the point s metres right of the street's centre line."""
        return s + self.camera.bend * z * z

    def project(self, points: Any) -> Array:
        """(..., 3) metres -> (..., 2) canvas pixels; all z must be positive."""
        q = np.asarray(points, np.float64) @ self._a + self._b
        out: Array = q[..., :2] / q[..., 2:]
        return out

    def spot(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Canvas pixel of one point."""
        u, v, w = (r[0] * x + r[1] * y + r[2] * z + r[3] for r in self._rows)
        return u / w, v / w

    def ink(self, color: Color, surface: int, z: float, light: float = 1.0) -> Ink:
        """What to draw with: the colour, lit, and seen through ``z`` metres of haze; OpenCV cuts it to 0..255."""
        t = math.exp(-self.light.fog * z)
        k, far = t * light, 1.0 - t
        h = self.light.haze
        return color[0] * k + h[0] * far, color[1] * k + h[1] * far, color[2] * k + h[2] * far, surface

    def fill(self, polygons: Any, ink: Ink) -> None:
        """Fill a polygon (k, 2), or n polygons (n, k, 2) that do not overlap."""
        points = (np.asarray(polygons) * 16).astype(np.int32)
        cv2.fillPoly(self.pixels, [points] if points.ndim == 2 else list(points), ink, shift=4)

    def lines(self, paths: Any, ink: Ink, width: int = 1) -> None:
        """Draw open paths (n, k, 2), ``width`` canvas pixels wide."""
        points = (np.asarray(paths) * 16).astype(np.int32)
        cv2.polylines(self.pixels, list(points), False, ink, width, cv2.LINE_8, 4)

    def face(self, points: Any, ink: Ink) -> None:
        """Project and fill in one step."""
        self.fill(self.project(points), ink)

    def shade(self, points: Any, level: int) -> None:
        """Darken the ground to ``level`` / 255 inside a polygon of (x, z) pairs, once ``apply_shadow`` is called."""
        self._shades.append((np.asarray(points, np.float64), level))

    def shade_behind(self, line: tuple[Spot, Spot], height: float) -> None:
        """The sun's shadow of an upright thing of that height over a ground line."""
        (xa, za), (xb, zb) = line
        dx, dz = self.light.cast(height)
        self.shade(((xa, za), (xb, zb), (xb + dx, zb + dz), (xa + dx, za + dz)), self.light.dark)

    def contact(self, x: float, z: float, rx: float, rz: float) -> None:
        """The dim patch under a thing."""
        self.shade(((x - rx, z - rz), (x + rx, z - rz), (x + rx, z + rz), (x - rx, z + rz)), 125)

    def wash(self, polygon: Any, keep: float, add: Ink | None = None) -> None:
        """Multiply the colours under a polygon (k, 2) by ``keep`` and add ``add``, whose surface id replaces theirs."""
        pts = np.asarray(polygon)
        h, w = self.shadow.shape
        x0, y0 = max(0, int(pts[:, 0].min()) - 1), max(0, int(pts[:, 1].min()) - 1)
        x1, y1 = min(w, int(pts[:, 0].max()) + 2), min(h, int(pts[:, 1].max()) + 2)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        region = self.pixels[y0:y1, x0:x1]
        mask = np.zeros(region.shape[:2], np.uint8)
        cv2.fillPoly(mask, [((pts - (x0, y0)) * 16).astype(np.int32)], 255, shift=4)
        changed = cv2.multiply(region, (keep, keep, keep, 0.0 if add else 1.0))
        if add:
            changed = cv2.add(changed, add)
        np.copyto(self.words[y0:y1, x0:x1], changed.view(np.uint32)[..., 0], where=mask != 0)

    def apply_shadow(self) -> None:
        """Darken what is drawn so far by the shadow mask; called once, between the ground and the objects."""
        if not self._shades:
            return
        xz = np.concatenate([points for points, _ in self._shades])
        ground = np.zeros((len(xz), 3))
        ground[:, 0], ground[:, 2] = xz[:, 0], np.maximum(xz[:, 1], 1.5)
        pixels = (self.project(ground) * 16).astype(np.int32)
        at = 0
        for points, level in self._shades:
            cv2.fillPoly(self.shadow, [pixels[at : at + len(points)]], level, shift=4)
            at += len(points)
        rows = np.flatnonzero(self.shadow.min(axis=1) < 255)
        if len(rows):
            band = slice(int(rows[0]), int(rows[-1]) + 1)
            s = self.shadow[band]
            full = np.full_like(s, 255)
            cv2.multiply(self.pixels[band], cv2.merge((s, s, s, full)), self.pixels[band], 1 / 255)


class Stamp:
    """Draws an upright figure that faces the camera: local metres, x to the right and y up from its foot."""

    def __init__(self, stage: Stage, x: float, z: float, light: float = 1.0) -> None:
        self.stage, self.z, self.light = stage, z, light
        self.u, self.v = stage.spot(x, 0.0, z)
        self.scale = stage.focal / z

    def at(self, x: float, y: float) -> tuple[int, int]:
        """Canvas pixel in sixteenths, as OpenCV's drawing functions take it."""
        return int((self.u + x * self.scale) * 16), int((self.v - y * self.scale) * 16)

    def ink(self, color: Color, surface: int, light: float) -> Ink:
        return self.stage.ink(color, surface, self.z, self.light * light)

    def poly(self, points: Iterable[Spot], color: Color, surface: int, light: float = 1.0) -> None:
        corners = np.array([self.at(x, y) for x, y in points], np.int32)
        cv2.fillPoly(self.stage.pixels, [corners], self.ink(color, surface, light), shift=4)

    def rect(self, x0: float, y0: float, x1: float, y1: float, color: Color, surface: int, light: float = 1.0) -> None:
        ink = self.ink(color, surface, light)
        cv2.rectangle(self.stage.pixels, self.at(x0, y1), self.at(x1, y0), ink, -1, 8, 4)

    def oval(
        self, x: float, y: float, rx: float, ry: float, color: Color, surface: int, light: float = 1.0, rim: float = 0.0
    ) -> None:
        """A filled ellipse, or only its rim of that width in m."""
        k = 16 * self.scale
        axes = (max(8, int(rx * k)), max(8, int(ry * k)))
        line = max(1, round(rim * self.scale)) if rim else -1
        cv2.ellipse(self.stage.pixels, self.at(x, y), axes, 0, 0, 360, self.ink(color, surface, light), line, 8, 4)

    def limb(self, points: Sequence[Spot], width: float, color: Color, surface: int, light: float = 1.0) -> None:
        """A path of (x, y) points drawn ``width`` metres thick, at least one canvas pixel."""
        ink, line = self.ink(color, surface, light), max(1, round(width * self.scale))
        ends = [self.at(x, y) for x, y in points]
        for a, b in pairwise(ends):
            cv2.line(self.stage.pixels, a, b, ink, line, 8, 4)
