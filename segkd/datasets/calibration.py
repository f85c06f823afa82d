"""Images of a data set on which the ranges of an int8 file are found."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from segkd.datasets.base import SegmentationDataset
from segkd.images import resize_image


def calibration_images(dataset: SegmentationDataset, size: tuple[int, int] | None, count: int) -> Iterator[Tensor]:
    """``count`` images (1, 3, H, W) uint8 at equal distances over the whole set, resized to ``size`` if given."""
    count = min(count, len(dataset))
    for k in range(count):
        image = torch.from_numpy(dataset[k * len(dataset) // count].image).permute(2, 0, 1)[None]
        yield resize_image(image, size or image.shape[-2:]).contiguous()
