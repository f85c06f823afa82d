"""Images of one size as images of another, in one way wherever they are resized: never shrunk without antialiasing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_image(image: Tensor, size: Sequence[int]) -> Tensor:
    """Images (N, 3, H, W) uint8 at another size (H, W), bilinear, antialiased along the sides that shrink."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    shrinks = size[0] < image.shape[-2] or size[1] < image.shape[-1]
    resized = F.interpolate(image.float(), size=tuple(size), mode="bilinear", align_corners=False, antialias=shrinks)
    return resized.round_().clamp_(0, 255).to(torch.uint8)
