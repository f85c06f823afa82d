"""DABNet: Depth-wise Asymmetric Bottleneck (Li and Kim, BMVC 2019, arXiv:1907.11357)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.base import (
    NETWORKS,
    FeatureInfo,
    Network,
    Preprocess,
    Result,
    Roles,
    kaiming_init,
    load_weights,
    resize_to,
)
from segkd.models.blocks import Asymmetric, ConvNormAct, DownConcat, NormAct, convolution
from segkd.models.cgnet import CITYSCAPES_MEAN

EPS = 1e-3
DILATIONS2 = (2, 2, 2)
DILATIONS3 = (4, 4, 8, 8, 16, 16)


def depthwise_pair(channels: int, dilation: int) -> nn.Sequential:
    """Depthwise 3x1, then 1x3, each with BatchNorm and PReLU."""
    pair = Asymmetric(channels, 3, dilation, groups=channels, between="norm_act", act="prelu", eps=EPS)
    return nn.Sequential(pair, NormAct(channels))


class DepthwiseAsymmetric(nn.Module):
    """The DAB module: half the channels, a plain and a dilated depthwise pair side by side, summed; plus identity.

    Pre-activation: every convolution of full depth follows BatchNorm and PReLU; the identity stays untouched.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = nn.Sequential(NormAct(channels), convolution(channels, half, 3), NormAct(half))
        self.local = depthwise_pair(half, 1)
        self.context = depthwise_pair(half, dilation)
        self.expand = nn.Sequential(NormAct(half), convolution(half, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        reduced = self.reduce(x)
        out: Tensor = x + self.expand(self.local(reduced) + self.context(reduced))
        return out


def stage(channels: int, dilations: tuple[int, ...]) -> nn.Sequential:
    """A row of DAB modules, one for each dilation; (N, C, H, W) -> the same."""
    return nn.Sequential(*(DepthwiseAsymmetric(channels, dilation) for dilation in dilations))


@NETWORKS.register("dabnet")
class DABNet(Network):
    """DABNet: 0.76 M parameters, two stages of DAB modules, each joined with the pooled image; logits at stride 8.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). As in the authors' code; at odd sizes the
    pooling in the first reduction rounds up, as the convolution beside it does (theirs rounds down and then fails).
    Convolutions start from He's normal distribution by fan-in. Images are RGB in 0..255 minus ``mean``.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
        mean: of the training images' red, green and blue in 0..255.
    """

    paper = "Li, Kim, BMVC 2019, arXiv:1907.11357"
    roles: Roles = {"backbone": "join3", "stages": ("join1", "join2", "join3")}
    results = (
        # trained on train + val
        Result("cityscapes", "test", 70.07, 104, "GTX 1080Ti", (512, 1024), source="repository"),
        Result("camvid", "test", 66.72, 146, "GTX 1080Ti", (360, 480), source="repository"),
    )

    def __init__(
        self, num_classes: int, weights: str | Path | None = None, mean: Sequence[float] = CITYSCAPES_MEAN
    ) -> None:
        super().__init__(num_classes, Preprocess(mean, (1.0, 1.0, 1.0), scale=1.0))
        self.stem = nn.Sequential(
            *(ConvNormAct(cin, 32, 3, stride, act="prelu", eps=EPS) for cin, stride in ((3, 2), (32, 1), (32, 1)))
        )
        self.join1 = NormAct(32 + 3)
        self.down2 = nn.Sequential(DownConcat(32 + 3, 64), NormAct(64))
        self.stage2 = stage(64, DILATIONS2)
        self.join2 = NormAct(64 + 64 + 3)
        self.down3 = nn.Sequential(DownConcat(64 + 64 + 3, 128), NormAct(128))
        self.stage3 = stage(128, DILATIONS3)
        self.join3 = NormAct(128 + 128 + 3)
        self.classifier = convolution(128 + 128 + 3, num_classes, 1)
        self.feature_info = (
            FeatureInfo("join1", 35, 2),
            FeatureInfo("stage2", 64, 4),
            FeatureInfo("join2", 131, 4),
            FeatureInfo("stage3", 128, 8),
            FeatureInfo("join3", 259, 8),
            FeatureInfo("classifier", num_classes, 8),
        )
        kaiming_init(self)
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        half = F.avg_pool2d(x, 3, 2, 1)
        quarter = F.avg_pool2d(half, 3, 2, 1)
        eighth = F.avg_pool2d(quarter, 3, 2, 1)
        level1 = self.join1(torch.cat([self.stem(x), half], dim=1))
        down = self.down2(level1)
        level2 = self.join2(torch.cat([self.stage2(down), down, quarter], dim=1))
        down = self.down3(level2)
        level3 = self.join3(torch.cat([self.stage3(down), down, eighth], dim=1))
        return resize_to(self.classifier(level3), x.shape[-2:])
