"""A small pyramid-pooling network for the tests here, and the colour rule that it learns."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.base import Network, Preprocess

SIZE = (90, 120)
CLASSES = ("red", "green", "blue")


class PyramidNet(Network):
    """Stem (stride 4), adaptive pools to 1, 2, 3, 6 (by module) and 5 x 7 (by function), head, bilinear upsampling."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes, Preprocess(channels="BGR", mean=(0.3, 0.4, 0.5), std=(0.2, 0.25, 0.3)))
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU()
        )
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(bins) for bins in (1, 2, 3, 6))
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Conv2d(16 * 6, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        pooled = [pool(y) for pool in self.pools] + [F.adaptive_avg_pool2d(y, (5, 7))]
        maps = [y, *(F.interpolate(p, size=y.shape[-2:], mode="bilinear", align_corners=False) for p in pooled)]
        logits = self.head(self.dropout(torch.cat(maps, 1)))
        return F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)


def colour_rule(image: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, H, W): the strongest channel."""
    return image.argmax(1)
