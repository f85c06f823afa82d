"""Images of one size as images of another, in one way wherever they are resized: never shrunk without antialiasing.

And how many bands a network's images have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def channels_of(network: Any) -> int:
    """How many bands a network's images have, by its ``preprocess``: 3, if that doesn't say."""
    mean = getattr(getattr(network, "preprocess", None), "mean", None)
    return len(mean) if isinstance(mean, Tensor) and mean.dim() == 1 else 3


def resize_image(image: Tensor, size: Sequence[int]) -> Tensor:
    """Images (N, C, H, W) uint8 at another size (H, W), bilinear, antialiased along the sides that shrink."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    shrinks = size[0] < image.shape[-2] or size[1] < image.shape[-1]
    resized = F.interpolate(image.float(), size=tuple(size), mode="bilinear", align_corners=False, antialias=shrinks)
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def resize_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Label maps (N, h, w) of integers at another size (H, W), by nearest neighbour."""
    if tuple(labels.shape[-2:]) == tuple(size):
        return labels
    resized = F.interpolate(labels[:, None].float(), size=tuple(size), mode="nearest-exact")
    return resized[:, 0].to(labels.dtype)
