"""Weights and images made from names alone: what mmsegmentation makes of them is frozen without the weights."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

FILE = Path(__file__).parents[1] / "golden" / "mmseg.npz"
CLASSES = 5
#: one logit in so many is kept
STEP = 53
SIZE = (67, 93)
#: mmsegmentation's DDRNet and PIDNet fail where 8 does not divide the size; ICNet has a pooling that rounds up
SIZES = {"ddrnet": (72, 104), "pidnet": (72, 104), "icnet": (72, 93)}
Shapes = list[tuple[str, tuple[int, ...]]]


class Golden(NamedTuple):
    """(name, shape) of each tensor of mmsegmentation's network, size of its BatchNorms' inputs, some of its logits."""

    shapes: Shapes
    power: list[float]
    logits: Tensor


def size_of(network: str) -> tuple[int, int]:
    """(H, W) of the image."""
    return next((size for family, size in SIZES.items() if network.startswith(family)), SIZE)


def values(name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor made from its name: weights of unit gain under ReLU, positive scales and variances."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    uniform = np.random.RandomState(crc32(name.encode())).random_sample(shape).astype(np.float32)
    if len(shape) > 1:
        bound = (6 / prod(shape[1:])) ** 0.5
        return torch.from_numpy((2 * uniform - 1) * np.float32(bound))
    if name.endswith(("running_var", "weight", "gamma")):
        return torch.from_numpy(0.5 + uniform)
    return torch.from_numpy(0.4 * uniform - 0.2)


def weights(shapes: Shapes, power: Iterable[float]) -> dict[str, Tensor]:
    """The state dict of mmsegmentation's network.

    Args:
        power: mean square of what goes into each BatchNorm, in the order of their variances, which are multiplied by
            it: without that, sums over many blocks would saturate every gate behind them.
    """
    made, factors = {name: values(name, shape) for name, shape in shapes}, iter(power)
    return {name: value * next(factors) if name.endswith("running_var") else value for name, value in made.items()}


def image(network: str) -> Tensor:
    """(1, 3, H, W) uint8 RGB."""
    pixels = np.random.RandomState(crc32(network.encode())).randint(0, 256, (1, 3, *size_of(network)))
    return torch.from_numpy(pixels.astype(np.uint8))


def kept(logits: Tensor) -> Tensor:
    """Every `STEP`-th of the logits (1, K, H, W)."""
    return logits.flatten()[::STEP]


def read() -> dict[str, Golden]:
    """network -> what is frozen of it."""
    found = {}
    with np.load(FILE) as file:
        for key in file.files:
            if key.endswith("/logits"):
                network = key.removesuffix("/logits")
                lines = file[f"{network}/tensors"].tobytes().decode().splitlines()
                rows = [line.split() for line in lines]
                shapes = [(name, tuple(int(side) for side in sides)) for name, *sides in rows]
                found[network] = Golden(shapes, file[f"{network}/power"].tolist(), torch.from_numpy(file[key]))
    return found
