"""Tiles of periodic noise from which all textures are cut: made once per process from a fixed seed."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

SIDE = 512
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

# name -> slope of the amplitude spectrum 1 / frequency ** slope: 0 is white, 2 is smooth as a cloud
SLOPES = {"grain": 0.0, "rough": 0.7, "leaf": 1.1, "cloud": 1.9}


@cache
def tile(kind: str) -> Bytes:
    """(512, 512) uint8, mean 128, standard deviation 42, periodic in both directions."""
    order = sorted(SLOPES).index(kind)
    white = np.random.Generator(np.random.PCG64(1000 + order)).standard_normal((SIDE, SIDE))
    fy, fx = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = 1.0
    gain = frequency ** -SLOPES[kind]
    gain[0, 0] = 0.0
    field = np.fft.ifft2(np.fft.fft2(white) * gain).real
    out: Bytes = np.clip(128 + 42 * field / field.std(), 0, 255).astype(np.uint8)
    return out


def patch(kind: str, y: float, x: float, height: int, width: int) -> Bytes:
    """(height, width) uint8 cut from the endless repetition of a tile, at offsets y and x in 0..1 of its side."""
    top, left = int(y * SIDE), int(x * SIDE)
    source = tile(kind)
    if top + height <= SIDE and left + width <= SIDE:
        return source[top : top + height, left : left + width]
    rows = np.arange(top, top + height) % SIDE
    columns = np.arange(left, left + width) % SIDE
    return source[rows].take(columns, axis=1)
