"""Images for measurements, where there is no data set."""

from __future__ import annotations

import numpy as np

from segkd.datasets.base import RGB, Sample, SegmentationDataset

IMAGES = 8


class RandomImages(SegmentationDataset):
    """Noise (H, W, channels) with labels of every class, of one ``size``; for measurements."""

    def __init__(self, num_classes: int, size: tuple[int, int], channels: int = RGB) -> None:
        self.channels = channels
        self.class_names = [f"class {k}" for k in range(num_classes)]
        self.palette = [(k, k, k) for k in range(num_classes)]
        draw = np.random.default_rng(0)
        images = draw.integers(0, 256, (IMAGES, *size, channels), dtype=np.uint8)
        labels = draw.integers(0, num_classes, (IMAGES, *size), dtype=np.uint8)
        self.samples = [Sample(*pair) for pair in zip(images, labels, strict=True)]

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]
