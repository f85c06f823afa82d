"""Random brightness, contrast, saturation and hue of an image, as torchvision defines them, in OpenCV's uint8."""

from __future__ import annotations

import random
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from segkd.datasets.base import RGB, Array

#: what is varied: by factors from .. to, the hue by parts of a turn
COLOURS = {"brightness": (0.7, 1.3), "contrast": (0.7, 1.3), "saturation": (0.7, 1.3), "hue": (-0.04, 0.04)}
UNCHANGED = {"brightness": (1.0, 1.0), "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": (0.0, 0.0)}
TURN = 180  # steps of OpenCV's hue in 8 bits


def jitter(
    image: Array, seed: int, ranges: Mapping[str, tuple[float, float]] = COLOURS, probability: float = 0.8
) -> Array:
    """An image (H, W, C) with each of its four properties changed by a factor uniform in its range, in random order.

    It stays as it is, except with ``probability``. Bands beyond the third have no colour, and stay.
    """
    generator = random.Random(seed)
    if probability < 1 and not generator.random() < probability:
        return image
    factors = [generator.uniform(*ranges[name]) for name in COLOURS]
    order = [0, 1, 2, 3]
    np.random.default_rng(seed).shuffle(order)
    changes = (brightness, contrast, saturation, hue)
    changed = np.ascontiguousarray(image[..., :RGB])
    for k in order:
        changed = changes[k](changed, factors[k])
    return changed if image.shape[2] == RGB else np.concatenate([changed, image[..., RGB:]], 2)


def brightness(image: Array, factor: float) -> Array:
    """The image times a factor."""
    return image if factor == 1 else _mapped(image, np.arange(256, dtype=np.float32) * np.float32(factor))


def contrast(image: Array, factor: float) -> Array:
    """The image mixed with its mean grey."""
    if factor == 1:
        return image
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    mean = cv2.sumElems(grey)[0] / grey.size
    return _mapped(image, np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(mean * (1 - factor)))


def saturation(image: Array, factor: float) -> Array:
    """The image mixed with what is grey of it."""
    if factor == 1:
        return image
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(image, factor, grey, 1 - factor, 0), np.uint8)


def hue(image: Array, turn: float) -> Array:
    """The image with its hues moved on by a part of a turn."""
    if turn == 0:
        return image
    changed = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    table = np.mod(np.arange(256, dtype=np.int16) + TURN * turn, TURN).astype(np.uint8)
    changed[..., 0] = cv2.LUT(changed[..., 0], table)
    return np.asarray(cv2.cvtColor(changed, cv2.COLOR_HSV2RGB), np.uint8)


def _mapped(image: Array, values: NDArray[np.float32]) -> Array:
    """The image with each value replaced, cut to 0..255 and rounded down."""
    return np.asarray(cv2.LUT(image, np.clip(values, 0, 255).astype(np.uint8)), np.uint8)
