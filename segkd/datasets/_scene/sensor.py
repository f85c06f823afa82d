"""From the canvas to the picture: textures, averaging down, wet roads, lamps at night, lens, exposure, noise, JPEG."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from segkd.datasets._scene.noise import SIDE, Floats, patch, tile
from segkd.datasets._scene.palette import BLOTCH, GRAIN, GROUND, LABELS
from segkd.datasets._scene.stage import SCALE, Stage

Bytes = NDArray[np.uint8]


def develop(stage: Stage, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """(image (H, W, 3), label (H, W)) of a finished canvas."""
    h, w = stage.shadow.shape[0] // SCALE, stage.shadow.shape[1] // SCALE
    surface = np.ascontiguousarray(stage.pixels[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE, 3])
    image = cv2.cvtColor(cv2.resize(stage.pixels, (w, h), interpolation=cv2.INTER_AREA), cv2.COLOR_RGBA2RGB)
    values = image.astype(np.float32)
    values *= texture(stage, surface, rng)[..., None]
    if rng.random() < 0.15:
        reflect(values, surface, stage, rng)
    values = cv2.multiply(values, vignette(h, w, round(3 * rng.random())))
    if stage.light.night:
        lamps(values, stage, rng)
    return expose(values, stage, rng), cv2.LUT(surface, LABELS)


def texture(stage: Stage, surface: Bytes, rng: np.random.Generator) -> Floats:
    """(H, W) brightness factor: grain and blotches by surface; the ground's in perspective."""
    h, w = surface.shape
    a, b, c, d, strength = rng.random(5).tolist()
    fine = patch("rough", a, b, h, w).astype(np.float32)
    coarse = patch("leaf", c, d, h, w).astype(np.float32)
    is_ground = cv2.LUT(surface, GROUND)
    rows = np.flatnonzero(is_ground.any(axis=1))
    if len(rows):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        mask = is_ground[part] != 0
        grain, blotch = ground_noise(stage, part, h, w)
        np.copyto(fine[part], grain, where=mask)
        np.copyto(coarse[part], blotch, where=mask)
    k = np.float32((0.5 + strength) / 42)
    out = (fine - 128) * (GRAIN * k)[surface]
    out += (coarse - 128) * (BLOTCH * k)[surface]
    out += 1
    return out


def ground_noise(stage: Stage, rows: slice, h: int, w: int) -> tuple[Floats, Floats]:
    """Grain and blotches of those rows as they lie on the ground; the grain fades where a pixel covers much of it."""
    a, b = stage.camera.matrix(h, w)
    plane = np.linalg.inv(np.stack((a[:, 0], a[:, 2], b), axis=1))  # (x, z, 1) <- pixel
    v = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    u = np.arange(w, dtype=np.float32)[None]
    x, z, k = (np.float32(r[0]) * u + (np.float32(r[1]) * v + np.float32(r[2])) for r in plane)
    scale = np.float32(24) / np.where(np.abs(k) < 1e-4, np.float32(1e-4), k)
    z *= scale
    x *= scale
    column, row = x.astype(np.int32), z.astype(np.int32)
    fade = np.clip(0.4 * stage.focal / SCALE / np.maximum(z[:, w // 2], 1), 0, 1)[:, None]
    grain = 128 + (tile("rough")[row & (SIDE - 1), column & (SIDE - 1)].astype(np.float32) - 128) * fade
    blotch = tile("cloud")[(row >> 1) & (SIDE - 1), (column >> 1) & (SIDE - 1)].astype(np.float32)
    return grain.astype(np.float32), blotch


def reflect(values: Floats, surface: Bytes, stage: Stage, rng: np.random.Generator) -> None:
    """Mirror in a wet ground what stands above the horizon."""
    h, w = surface.shape
    horizon = min(max(int(stage.camera.horizon * h), 1), h - 1)
    n = min(h - horizon, horizon)
    share = rng.uniform(0.12, 0.4)
    mirror = cv2.blur(values[horizon - n : horizon][::-1], (1, max(1, h // 24)))
    below = values[horizon : horizon + n]
    wet = (cv2.LUT(surface[horizon : horizon + n], GROUND) != 0)[..., None]
    np.copyto(below, below * (0.9 - share) + mirror * share, where=wet)


@lru_cache(maxsize=16)
def vignette(h: int, w: int, level: int) -> Floats:
    """(H, W, 3) darkening towards the corners, at one of four levels."""
    y, x = np.linspace(-1, 1, h)[:, None], np.linspace(-1, 1, w)[None]
    fall = 1 - 0.11 * level * (x * x + y * y) / 2
    return np.repeat(fall.astype(np.float32)[..., None], 3, axis=2)


def lamps(values: Floats, stage: Stage, rng: np.random.Generator) -> None:
    """Turn the scene into night: dim and bluish, with pools of lamp light."""
    h, w = values.shape[:2]
    glow = np.full((32, 64, 3), (0.38, 0.4, 0.5), np.float32)
    for x, y, r, k in rng.random((7, 4)):
        pool = np.zeros((32, 64), np.float32)
        cv2.circle(pool, (int(64 * x), int(6 + 22 * y)), int(2 + 7 * r), 0.35 + 0.6 * float(k), -1)
        glow += cv2.GaussianBlur(pool, (0, 0), 4)[..., None] * np.array((1.0, 0.86, 0.6), np.float32)
    values *= cv2.resize(glow, (w, h))


def expose(values: Floats, stage: Stage, rng: np.random.Generator) -> Bytes:
    """The picture after lens blur, exposure and white balance, sensor noise, JPEG."""
    h, w = values.shape[:2]
    sigma, gain, warm, tint, noise, y, x, quality, gamma = rng.random(9).tolist()
    values = cv2.GaussianBlur(values, (3, 3), 0.25 + 0.5 * sigma)
    k = math.exp(0.65 * gain - 0.2) * (1.5 if stage.light.night else 1.0)
    balance = (k * (1 + 0.2 * (warm - 0.5)), k * (1 + 0.08 * (tint - 0.5)), k * (1 - 0.2 * (warm - 0.5)), 0.0)
    values = cv2.multiply(values, balance)
    speckle = patch("grain", y, x, h, w).astype(np.float32) - 128
    values += speckle[..., None] * np.float32((0.02 + 0.13 * noise * noise) * (1.6 if stage.light.night else 1.0))
    image = cv2.LUT(np.clip(values, 0, 255).astype(np.uint8), curve(round(4 * gamma)))
    if quality < 0.5:
        coded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, int(45 + 90 * quality)))[1]
        image = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    out: Bytes = image
    return out


@lru_cache(maxsize=8)
def curve(level: int) -> Bytes:
    """(256,) tone curve with one of five gammas, 0.8 to 1.25."""
    x = np.arange(256) / 255
    return np.round(255 * x ** (0.8 + 0.1125 * level)).astype(np.uint8)
