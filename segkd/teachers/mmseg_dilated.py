"""mmsegmentation's PSPNet, DeepLabV3 and DeepLabV3+: its dilated ResNet under the three context modules.

No network of `segkd.models`, smp or torchvision computes these: the stem is three 3x3 convolutions of 32, 32 and 64
channels, a stage's first block has half the dilation, and each context module ends in a 3x3 of 512 channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segkd.models.base import FeatureInfo, Network, resize_corners, resize_to
from segkd.models.blocks import ConvNormAct, ResidualBasic
from segkd.models.fusion import PyramidPooling
from segkd.models.pspnet import ENCODERS, WIDTHS, CornerPyramidPooling, residual_stage

#: of the atrous branches, at stride 8
DILATIONS = (12, 24, 36)


def set_dilation(layer: ConvNormAct, dilation: int) -> None:
    """Give the 3x3 convolution of ``layer`` a dilation, and the padding that keeps the size."""
    conv = layer[0]
    conv.dilation = conv.padding = (dilation, dilation)  # type: ignore[assignment]


def separable(cin: int, cout: int, dilation: int = 1) -> nn.Sequential:
    """Depthwise 3x3, then 1x1, each with BatchNorm and ReLU."""
    return nn.Sequential(ConvNormAct(cin, cin, 3, dilation=dilation, groups=cin), ConvNormAct(cin, cout, 1))


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling: the global mean, a 1x1 and three dilated 3x3, concatenated, fused by a 3x3.

    (N, cin, H, W) -> (N, cout, H, W), every branch of ``cout`` channels.

    Args:
        split: make the dilated convolutions depthwise and 1x1, as DeepLabV3+ does.
    """

    def __init__(self, cin: int, cout: int, split: bool = False) -> None:
        super().__init__()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvNormAct(cin, cout, 1))
        dilated = (separable(cin, cout, d) if split else ConvNormAct(cin, cout, 3, dilation=d) for d in DILATIONS)
        self.branches = nn.ModuleList([ConvNormAct(cin, cout, 1), *dilated])
        self.project = ConvNormAct((2 + len(DILATIONS)) * cout, cout, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = resize_to(self.pool(x), x.shape[-2:])
        out: Tensor = self.project(torch.cat([pooled, *(branch(x) for branch in self.branches)], dim=1))
        return out


class DilatedResNet(nn.Module):
    """ResNet of stride 8 with a stem of three 3x3: (N, 3, H, W) -> its four maps at strides 4, 8, 8, 8."""

    def __init__(self, encoder: str) -> None:
        super().__init__()
        block, expansion, blocks = ENCODERS[encoder]
        self.channels = [width * expansion for width in WIDTHS]
        self.stem = nn.Sequential(
            ConvNormAct(3, 32, 3, 2), ConvNormAct(32, 32), ConvNormAct(32, 64), nn.MaxPool2d(3, 2, 1)
        )
        cins = (64, *self.channels)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            residual_stage(block, blocks[i], cins[i], self.channels[i], i) for i in range(4)
        )
        basic = block is ResidualBasic
        for layer, dilation in ((self.layer3, 1), (self.layer4, 2)):
            bodies: list[Any] = [residual.body for residual in layer]
            set_dilation(bodies[0][0 if basic else 1], dilation)
            for body in bodies if basic else ():
                set_dilation(body[1], 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first = self.layer1(self.stem(x))
        second = self.layer2(first)
        third = self.layer3(second)
        return first, second, third, self.layer4(third)


class DilatedNetwork(Network):
    """A `DilatedResNet` under a context module at stride 8; logits made there, or, with ``fine``, at stride 4.

    (N, 3, H, W) -> logits (N, num_classes, H, W) for any H, W >= 32.

    Args:
        arch: "pspnet", "deeplabv3" or "deeplabv3plus".
        encoder: "resnet18", "resnet50" or "resnet101".
        num_classes: number of classes.
        corners: resizes keep the corners (align_corners=True), as in the configs of crops of 769x769.
    """

    def __init__(self, arch: str, encoder: str, num_classes: int, corners: bool = False) -> None:
        super().__init__(num_classes)
        self.resize = resize_corners if corners else resize_to
        self.backbone = DilatedResNet(encoder)
        channels = self.backbone.channels
        width = channels[-1] // 4
        pyramid = CornerPyramidPooling if corners else PyramidPooling
        self.context: nn.Module = (
            pyramid(channels[-1], width, width=width, kernel=3)
            if arch == "pspnet"
            else AtrousPyramid(channels[-1], width, split=arch == "deeplabv3plus")
        )
        self.fine: nn.Module | None = None
        if arch == "deeplabv3plus":
            narrow = 48 if width == 512 else 12
            self.fine = ConvNormAct(channels[0], narrow, 1)
            self.refine = nn.Sequential(separable(width + narrow, width), separable(width, width))
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.feature_info = self._described(channels, width)

    def _described(self, channels: Sequence[int], width: int) -> tuple[FeatureInfo, ...]:
        stages = (FeatureInfo(f"backbone.layer{i + 1}", c, 8 if i else 4) for i, c in enumerate(channels))
        stride = 8 if self.fine is None else 4
        refined = () if self.fine is None else (FeatureInfo("refine", width, 4),)
        last = FeatureInfo("classifier", self.num_classes, stride)
        return (*stages, FeatureInfo("context", width, 8), *refined, last)

    def forward(self, x: Tensor) -> Tensor:
        first, *_, deep = self.backbone(x)
        out = self.context(deep)
        if self.fine is not None:
            fine = self.fine(first)
            out = self.refine(torch.cat([self.resize(out, fine.shape[-2:]), fine], dim=1))
        return self.resize(self.classifier(self.dropout(out)), x.shape[-2:])
