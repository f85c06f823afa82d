"""The random camera and light of a scene, and the sky."""

from __future__ import annotations

import math

import cv2
import numpy as np

from segkd.datasets._scene.noise import patch
from segkd.datasets._scene.palette import SKY, Color, blend, near, pick
from segkd.datasets._scene.stage import Camera, Light, Stage

# colours at the zenith and at the horizon
SKIES: dict[str, tuple[tuple[Color, Color], ...]] = {
    "clear": (((84, 132, 196), (190, 208, 224)), ((110, 156, 210), (212, 220, 224)), ((70, 110, 170), (176, 190, 204))),
    "grey": (
        ((150, 154, 160), (196, 198, 200)),
        ((186, 188, 190), (222, 222, 220)),
        ((120, 124, 132), (168, 170, 172)),
    ),
    "dusk": (((92, 92, 128), (222, 168, 128)), ((120, 108, 120), (212, 186, 156)), ((64, 72, 112), (188, 130, 112))),
    "night": (((34, 38, 58), (82, 76, 84)), ((26, 28, 38), (64, 62, 72))),
}


def random_camera(rng: np.random.Generator) -> Camera:
    """A camera in a car, now and then in a van or at head height, looking along the street."""
    height = rng.uniform(1.15, 1.8) if rng.random() < 0.8 else rng.uniform(1.8, 2.9)
    bend = 0.0 if rng.random() < 0.4 else rng.normal(0.0, 0.0011)
    return Camera(
        focal=rng.uniform(0.72, 1.05),
        cx=rng.uniform(0.36, 0.64),
        horizon=rng.uniform(0.38, 0.56),
        height=height,
        roll=rng.normal(0.0, 0.012),
        bend=float(np.clip(bend, -0.003, 0.003)),
    )


def random_light(rng: np.random.Generator) -> tuple[Light, str]:
    """Light and the kind of sky that goes with it."""
    kind = pick(rng, ("clear",) * 9 + ("grey",) * 7 + ("dusk",) * 3 + ("night",) * 1)
    azimuth = rng.uniform(-math.pi, math.pi)
    elevation = rng.uniform(0.12, 0.4) if kind == "dusk" else rng.uniform(0.4, 1.2)
    power = {"clear": rng.uniform(0.6, 1.0), "dusk": rng.uniform(0.2, 0.7)}.get(kind, rng.uniform(0.0, 0.15))
    c = math.cos(elevation)
    sun = (c * math.sin(azimuth), math.sin(elevation), c * math.cos(azimuth))
    fog = rng.uniform(0.001, 0.006) if rng.random() < 0.8 else rng.uniform(0.008, 0.025)
    return Light(sun, power, blend(pick(rng, SKIES[kind])[1], (150, 152, 156), 0.3), fog, kind == "night"), kind


def draw_sky(stage: Stage, kind: str, rng: np.random.Generator) -> None:
    """Gradient from the zenith to the haze of the horizon, with clouds."""
    top, low = (near(rng, c, 0.08) for c in pick(rng, SKIES[kind]))
    cover, contrast, y, x, stretch = rng.random(5).tolist()
    h, w = stage.shadow.shape
    rows = min(h, max(8, int(h * (stage.camera.horizon + 0.08))))
    small = cv2.resize(patch("cloud", y, x, 64 + int(128 * stretch), 128), (64, 32)).astype(np.float32)
    clouds = np.clip((small - 110 - 70 * cover) / 60, 0, 1)[..., None] * (0.15 + 0.75 * contrast)
    t = np.linspace(0, 1, 32, dtype=np.float32)[:, None, None] ** 1.3
    base = np.array(top, np.float32) * (1 - t) + np.array(low, np.float32) * t
    cloud = np.array(blend(low, (236, 236, 236), 0.3 if kind in ("night", "dusk") else 0.75), np.float32)
    sky = base * (1 - clouds) + cloud * clouds
    full = np.full((*clouds.shape[:2], 4), SKY, np.uint8)
    full[..., :3] = np.clip(sky, 0, 255)
    cv2.resize(full, (w, rows), stage.pixels[:rows])
    stage.words[rows:] = full[-1:, :1].view(np.uint32)[0, 0]
