"""Where a training crop lies on its image, and what was computed for the whole image, warped onto the crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Size = Sequence[int]
#: of a batch: images as wholes, where the crops lie on them, and answers that were kept, by "answers:" and the tap
WHOLE, VIEW, ANSWERS = "whole", "view", "answers:"


class View(NamedTuple):
    """A crop on its image: the crop's point (y, x) is the image's (top + down * y, left + right * x).

    Points are measured in pixels from the upper left corner, so that a pixel's centre is at a half. ``right`` is below
    0 where the crop is mirrored; points beyond the image are padding.
    """

    top: float
    down: float
    left: float
    right: float


def warp(feature: Tensor, views: Tensor, image: Size, crop: Size, cells: Size | None = None) -> Tensor:
    """Maps of whole images as maps of crops of them, bilinear; beyond the image as at its border.

    Args:
        feature: (N, C, h, w) of images of size ``image``, floating point.
        views: (N, 4), a ``View`` of each.
        image: (H, W) of the images.
        crop: (H, W) of the crops.
        cells: (h', w') of the result; by default the feature's, as the crop is to the image.

    Returns:
        (N, C, h', w').
    """
    cells = cells or cells_of(crop, feature.shape[-2:], image)
    places = [
        (torch.arange(count, device=feature.device, dtype=torch.float32) + 0.5) * (side / count)
        for count, side in zip(cells, crop, strict=True)
    ]
    top, down, left, right = views.to(feature.device, torch.float32).unbind(1)
    rows = 2 * (top[:, None] + down[:, None] * places[0]) / image[0] - 1  # of -1 .. 1, as grid_sample counts
    columns = 2 * (left[:, None] + right[:, None] * places[1]) / image[1] - 1
    shape = (len(feature), *cells)
    grid = torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], -1)
    value = feature if feature.dtype == torch.float64 else feature.float()
    warped = F.grid_sample(value, grid.to(value.dtype), mode="bilinear", padding_mode="border", align_corners=False)
    return warped.to(feature.dtype)


def cells_of(crop: Size, cells: Size, image: Size) -> tuple[int, int]:
    """Cells (h, w) of a crop (H, W), where an image (H, W) has ``cells``."""
    down, along = (max(1, -(-side * count // whole)) for side, count, whole in zip(crop, cells, image, strict=True))
    return down, along
