"""BiSeNet V2: Bilateral Network with Guided Aggregation (Yu et al., IJCV 2021, arXiv:2004.02147)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from segkd.models.base import (
    NETWORKS,
    FeatureInfo,
    Network,
    Preprocess,
    Result,
    Roles,
    load_weights,
    resize_to,
)
from segkd.models.bisenetv1 import MEAN, STD
from segkd.models.blocks import ConvNormAct, convolution
from segkd.models.fusion import resize_nearest

EXPAND = 6


class GatherExpand(nn.Module):
    """Gather-and-expansion layer: 3x3, depthwise 3x3 to 6 times the width, linear 1x1, plus the input; then ReLU.

    (N, cin, H, W) -> (N, cout, H / stride, W / stride). With stride 2 the depthwise convolution is two, the first of
    which halves the size and has no ReLU, and the input is added through a depthwise 3x3 and a 1x1. Else cin = cout.
    """

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__()
        width = cin * EXPAND
        expand = [ConvNormAct(cin, width, 3, stride, groups=cin, act=stride == 1)]
        if stride > 1:
            expand.append(ConvNormAct(width, width, 3, groups=width))
        self.body = nn.Sequential(ConvNormAct(cin, cin, 3), *expand)
        self.project = ConvNormAct(width, cout, 1, act=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                ConvNormAct(cin, cin, 3, stride, groups=cin, act=False), ConvNormAct(cin, cout, 1, act=False)
            )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.project(self.body(x)) + self.shortcut(x))
        return out


class Stem(nn.Module):
    """Two ways down to stride 4, a 3x3 convolution behind a 1x1 and a max pooling, concatenated and fused."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv = ConvNormAct(3, width, 3, 2)
        self.down = nn.Sequential(ConvNormAct(width, width // 2, 1), ConvNormAct(width // 2, width, 3, 2))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.fuse = ConvNormAct(2 * width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 16, H/4, W/4)."""
        x = self.conv(x)
        out: Tensor = self.fuse(torch.cat([self.down(x), self.pool(x)], dim=1))
        return out


class ContextEmbedding(nn.Module):
    """Adds the map's mean, normalised and projected, to every position; then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(channels), ConvNormAct(channels, channels, 1))
        self.conv = ConvNormAct(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x + self.pool(x))
        return out


class SemanticBranch(nn.Module):
    """Narrow and deep: stem and three stages of gather-and-expansion layers down to stride 32, context embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem()
        self.stage3 = nn.Sequential(GatherExpand(16, 32, 2), GatherExpand(32, 32))
        self.stage4 = nn.Sequential(GatherExpand(32, 64, 2), GatherExpand(64, 64))
        self.stage5 = nn.Sequential(GatherExpand(64, 128, 2), *(GatherExpand(128, 128) for _ in range(3)))
        self.context = ContextEmbedding(128)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 128, H/32, W/32)."""
        out: Tensor = self.context(self.stage5(self.stage4(self.stage3(self.stem(x)))))
        return out


class GuidedAggregation(nn.Module):
    """Bilateral guided aggregation: each branch gates the other at its own stride, and the two are summed at stride 8.

    (N, C, H, W) detail, (N, C, H/4, W/4) semantics -> (N, C, H, W). Upsampling is by nearest neighbour.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.detail = self._separable(channels)
        self.detail_down = nn.Sequential(ConvNormAct(channels, channels, 3, 2, act=False), nn.AvgPool2d(3, 2, 1))
        self.semantics = self._separable(channels)
        self.semantics_up = ConvNormAct(channels, channels, 3, act=False)
        self.fuse = ConvNormAct(channels, channels, 3)

    @staticmethod
    def _separable(channels: int) -> nn.Sequential:
        """Depthwise 3x3 with BatchNorm, then a bare 1x1."""
        return nn.Sequential(
            ConvNormAct(channels, channels, 3, groups=channels, act=False), convolution(channels, channels, 1)
        )

    def forward(self, detail: Tensor, semantics: Tensor) -> Tensor:
        size = detail.shape[-2:]
        fine = self.detail(detail) * resize_nearest(self.semantics_up(semantics).sigmoid(), size)
        coarse = self.detail_down(detail) * self.semantics(semantics).sigmoid()
        out: Tensor = self.fuse(fine + resize_nearest(coarse, size))
        return out


def detail_branch() -> nn.Sequential:
    """Wide and shallow: (N, 3, H, W) -> (N, 128, H/8, W/8) in eight 3x3 convolutions."""
    plan = ((3, 64, 2), (64, 64, 1), (64, 64, 2), (64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 128, 1))
    return nn.Sequential(*(ConvNormAct(cin, cout, 3, stride) for cin, cout, stride in plan))


@NETWORKS.register("bisenetv2")
class BiSeNetV2(Network):
    """BiSeNet V2: 3.36 M parameters; a wide shallow branch for detail, a narrow deep one for semantics, guided fusion.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). This is the network of
    github.com/CoinCheung/BiSeNet (MIT). By its own account it differs from the paper's figures: a ReLU after the
    expansion and after the aggregation, BatchNorm and ReLU in the context embedding's last convolution; its classifier
    reads 1,024 channels. Convolutions start from He's normal init by fan-out, and each gather-and-expansion layer's
    last BatchNorm from 0, so that it begins as its shortcut; that repository then loads branches trained on ImageNet.
    The four booster heads are supervision.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
        dropout: probability before the classifier.
    """

    paper = "Yu, Gao, Wang, Yu, Shen, Sang, IJCV 2021, arXiv:2004.02147"
    roles: Roles = {
        "backbone": "semantic.stage5",
        "stages": ("semantic.stem", "semantic.stage3", "semantic.stage4", "semantic.stage5"),
    }
    results = (
        # the paper gives its speed for 1024x2048 images, which the network sees at half of that (STDC's repository)
        Result("cityscapes", "test", 72.6, 156.0, "GTX 1080 Ti", (512, 1024)),
        Result("cityscapes", "val", 74.95, size=(1024, 2048), source="repository"),
    )

    def __init__(self, num_classes: int, weights: str | Path | None = None, dropout: float = 0.1) -> None:
        super().__init__(num_classes, Preprocess(MEAN, STD))
        self.semantic = SemanticBranch()
        self.detail = detail_branch()
        self.aggregation = GuidedAggregation(128)
        self.head = ConvNormAct(128, 1024, 3)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(1024, num_classes, 1)
        self.feature_info = (
            FeatureInfo("detail", 128, 8),
            FeatureInfo("semantic.stem", 16, 4),
            FeatureInfo("semantic.stage3", 32, 8),
            FeatureInfo("semantic.stage4", 64, 16),
            FeatureInfo("semantic.stage5", 128, 32),
            FeatureInfo("semantic.context", 128, 32),
            FeatureInfo("aggregation", 128, 8),
            FeatureInfo("head", 1024, 8),
            FeatureInfo("classifier", num_classes, 8),
        )
        initialise(self)
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        fused = self.aggregation(self.detail(x), self.semantic(x))
        return resize_to(self.classifier(self.dropout(self.head(fused))), x.shape[-2:])


def initialise(network: nn.Module) -> None:
    """He's normal init by fan-out, biases zero, and the last BatchNorm of every gather-and-expansion layer zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, GatherExpand):
            nn.init.zeros_(module.project[1].weight)  # type: ignore[arg-type]


class BoosterHead(nn.Module):
    """An auxiliary head of BiSeNet V2's booster training: (N, in_channels, h, w) -> (N, num_classes, 2h, 2w).

    3x3 to 128 channels, dropout, doubled by nearest neighbour, 3x3 to ``stride`` squared channels, 1x1 to the classes.

    Args:
        in_channels: channels of the tap.
        num_classes: number of classes.
        stride: of the tap against the image.
        dropout: probability after the first convolution.
    """

    def __init__(self, in_channels: int, num_classes: int, stride: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, 128, 3)
        self.dropout = nn.Dropout(dropout)
        self.expand = ConvNormAct(128, stride**2, 3)
        self.classifier = nn.Conv2d(stride**2, num_classes, 1)
        initialise(self)

    def forward(self, feature: Tensor) -> Tensor:
        x = self.dropout(self.conv(feature))
        logits: Tensor = self.classifier(self.expand(resize_nearest(x, [2 * side for side in x.shape[-2:]])))
        return logits
