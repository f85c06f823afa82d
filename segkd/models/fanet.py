"""FANet: Real-time Semantic Segmentation with Fast Attention (Hu et al., IEEE RA-L 2021, arXiv:2007.03815)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from segkd.models.base import (
    NETWORKS,
    FeatureInfo,
    Network,
    Result,
    Roles,
    kaiming_init,
    load_weights,
    resize_corners,
)
from segkd.models.blocks import ConvNormAct
from segkd.models.fusion import FastAttention
from segkd.models.resnet import DEPTHS, WIDTHS, ResNetTrunk, imagenet_weights, load_trunk

ACT = "leaky_relu"
STRIDES = (8, 16, 32, 64)
SMOOTH = 128


class AttentionFusion(nn.Module):
    """Fast attention over one level, projected, plus that level, plus the coarser level's message if there is one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = FastAttention(channels, act=ACT)
        self.project = ConvNormAct(channels, channels, 1, act=ACT)

    def forward(self, x: Tensor, coarser: Tensor | None = None) -> Tensor:
        """(N, C, H, W), (N, C, h, w) -> (N, C, H, W)."""
        out: Tensor = x + self.project(self.attention(x))
        return out if coarser is None else out + resize_corners(coarser, x.shape[-2:])


class Output(nn.Sequential):
    """3x3 with BatchNorm and leaky ReLU, then 1x1 to the logits without bias."""

    def __init__(self, cin: int, middle: int, num_classes: int) -> None:
        super().__init__(ConvNormAct(cin, middle, 3, act=ACT), nn.Conv2d(middle, num_classes, 1, bias=False))
        unit_gain_init(self)


class AuxOutput(nn.Sequential):
    """FANet's auxiliary head: ``Output`` through 64 channels, for a supervision term.

    Args:
        in_channels: channels of the tap.
        num_classes: K.
        smooth: first a 3x3 to 128 channels: for the coarsest level, whose smoothed map nothing else reads.
    """

    def __init__(self, in_channels: int, num_classes: int, smooth: bool = False) -> None:
        before = [ConvNormAct(in_channels, SMOOTH, 3, act=ACT)] if smooth else []
        super().__init__(*before, Output(SMOOTH if smooth else in_channels, 64, num_classes))
        unit_gain_init(self)


def unit_gain_init(network: nn.Module) -> None:
    """Normal init of every convolution with variance 1 / fan-in, as FANet does outside its ResNet."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=1)


class FANet(Network):
    """FANet: a ResNet at half the usual resolution (strides 8 to 64), attention on each level; logits at stride 8.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). All resizes have align_corners=True, as
    published. In-place activated BatchNorm is BatchNorm and leaky ReLU (0.01) here, the same function.

    Not here are, of the authors' code, a padding of 1 around the 1x1 convolutions towards the finer level, which makes
    these maps 2 larger before they are resized (0.012 GMAC of 11.85 at 512x1024), layers that nothing reads (0.15 M
    parameters), and the smoothing of the coarsest level: only the auxiliary head reads it, so it is in ``AuxOutput``.

    Convolutions outside the ResNet have variance 1 / fan-in at first, those inside He's normal distribution.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict, loaded last.
        True downloads torchvision's ImageNet weights of the ResNet, a file holds them; nothing is downloaded otherwise.
    """

    arch = ""
    paper = "Hu, Perazzi, Caba Heilbron, Wang, Lin, Saenko, Sclaroff, IEEE RA-L 2021, arXiv:2007.03815"
    roles: Roles = {
        "classifier": "classifier.1",
        "backbone": "trunk.layer4",
        "stages": ("trunk.layer1", "trunk.layer2", "trunk.layer3", "trunk.layer4"),
    }

    def __init__(
        self, num_classes: int, weights: str | Path | None = None, pretrained: bool | str | Path = False
    ) -> None:
        super().__init__(num_classes)
        self.trunk = ResNetTrunk(DEPTHS[self.arch], strides=(2, 2, 2, 2), act=ACT)
        self.fuse8, self.fuse16, self.fuse32, self.fuse64 = (AttentionFusion(width) for width in WIDTHS)
        self.up16, self.up32, self.up64 = (ConvNormAct(width, width // 2, 1, act=ACT) for width in WIDTHS[1:])
        self.smooth8 = ConvNormAct(64, SMOOTH, 3, act=ACT)
        self.smooth32 = ConvNormAct(256, SMOOTH, 3, act=ACT)
        self.classifier = Output(2 * SMOOTH, 2 * SMOOTH, num_classes)
        self.feature_info = describe(num_classes)
        unit_gain_init(self)
        kaiming_init(self.trunk)
        if pretrained:
            load_trunk(self.trunk, imagenet_weights(self.arch, pretrained))
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third, fourth = self.trunk(x)
        fused32 = self.fuse32(third, self.up64(self.fuse64(fourth)))
        fused16 = self.fuse16(second, self.up32(fused32))
        fine = self.smooth8(self.fuse8(first, self.up16(fused16)))
        coarse = resize_corners(self.smooth32(fused32), fine.shape[-2:])
        return resize_corners(self.classifier(torch.cat([coarse, fine], dim=1)), x.shape[-2:])


def describe(num_classes: int) -> tuple[FeatureInfo, ...]:
    """Taps of a FANet but those at stride 64 (``trunk.layer4``, ``fuse64``), whose size not every image's divides."""
    levels = list(zip(WIDTHS, STRIDES, strict=True))[:3]
    return (
        *(FeatureInfo(f"trunk.layer{k + 1}", width, stride) for k, (width, stride) in enumerate(levels)),
        *(FeatureInfo(f"fuse{stride}", width, stride) for width, stride in reversed(levels)),
        FeatureInfo("smooth8", SMOOTH, 8),
        FeatureInfo("classifier.0", 2 * SMOOTH, 8),
        FeatureInfo("classifier", num_classes, 8),
    )


@NETWORKS.register("fanet18")
class FANet18(FANet):
    """FANet with ResNet-18. Input, logits and arguments as those of ``FANet``."""

    arch = "resnet18"
    results = (Result("cityscapes", "test", 74.4, 72, "Titan X", (1024, 2048)),)


@NETWORKS.register("fanet34")
class FANet34(FANet):
    """FANet with ResNet-34. Input, logits and arguments as those of ``FANet``."""

    arch = "resnet34"
    results = (Result("cityscapes", "test", 75.5, 58, "Titan X", (1024, 2048)),)
