"""BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation (Yu et al., ECCV 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from segkd.errors import UserError, nearest
from segkd.models.base import (
    NETWORKS,
    FeatureInfo,
    Network,
    Preprocess,
    Result,
    Roles,
    load_weights,
    resize_corners,
    resize_to,
)
from segkd.models.blocks import ConvNormAct, convolution
from segkd.models.fusion import resize_nearest
from segkd.models.resnet import DEPTHS, ResNetTrunk, imagenet_weights, load_trunk

Resize = Callable[[Tensor, Sequence[int]], Tensor]


class AttentionRefinement(nn.Module):
    """3x3 convolution, each of whose channels is scaled by a gate read off their means (ARM).

    (N, cin, H, W) -> (N, cout, H, W); the gate is pooling to 1x1, a 1x1 with BatchNorm, sigmoid.
    """

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(cin, cout, 3)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvNormAct(cout, cout, 1, act=False), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        out: Tensor = x * self.gate(x)
        return out


class AttentionFusion(nn.Module):
    """Both maps concatenated and mixed by a 1x1, plus the same scaled by a gate read off its channels' means (FFM).

    (N, C1, H, W), (N, C2, H, W) with C1 + C2 = cin -> (N, cout, H, W).

    Args:
        gate: what makes the gate of (N, cout, 1, 1), between pooling and sigmoid.
    """

    def __init__(self, cin: int, cout: int, gate: nn.Sequential) -> None:
        super().__init__()
        self.conv = ConvNormAct(cin, cout, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), *gate, nn.Sigmoid())

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        x = self.conv(torch.cat([detail, context], dim=1))
        out: Tensor = x + x * self.gate(x)
        return out


def squeeze_gate(channels: int, reduction: int = 1) -> nn.Sequential:
    """1x1 to ``channels // reduction``, ReLU, 1x1 back; no BatchNorm, no bias."""
    middle = channels // reduction
    return nn.Sequential(convolution(channels, middle, 1), nn.ReLU(inplace=True), convolution(middle, channels, 1))


def norm_gate(channels: int) -> nn.Sequential:
    """A 1x1 with BatchNorm."""
    return nn.Sequential(ConvNormAct(channels, channels, 1, act=False))


class ContextPath(nn.Module):
    """Upper half of the context path: the deep maps refined, and taken up to stride 8 from the global mean on.

    Args:
        middle, deep: channels at stride 16 and 32.
        resize: how a map is brought to the next size.
    """

    def __init__(self, middle: int, deep: int, resize: Resize, width: int = 128) -> None:
        super().__init__()
        self.resize = resize
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvNormAct(deep, width, 1))
        self.refine32 = AttentionRefinement(deep, width)
        self.refine16 = AttentionRefinement(middle, width)
        self.up16 = ConvNormAct(width, width, 3)
        self.up8 = ConvNormAct(width, width, 3)

    def forward(self, middle: Tensor, deep: Tensor, size: Sequence[int]) -> Tensor:
        """(N, middle, H/16, W/16), (N, deep, H/32, W/32), (H/8, W/8) -> (N, width, H/8, W/8)."""
        coarse = self.refine32(deep) + self.pool(deep)
        coarse = self.up16(self.resize(coarse, middle.shape[-2:]))
        out: Tensor = self.up8(self.resize(self.refine16(middle) + coarse, size))
        return out


class Variant(NamedTuple):
    """What differs between the published codes.

    ``resize`` is of the context path, ``slope`` the one that the initialisation assumes of a leaky ReLU.
    """

    resize: Resize
    resize_logits: Resize
    head: int
    gate: Callable[[int], nn.Sequential]
    slope: float


# of Cityscapes, in RGB, as the authors of both BiSeNets' usual code count them
MEAN, STD = (0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115)
VARIANTS = {
    "torchseg": Variant(resize_corners, resize_corners, head=64, gate=squeeze_gate, slope=0.0),
    "coincheung": Variant(resize_nearest, resize_to, head=256, gate=norm_gate, slope=1.0),
}


@NETWORKS.register("bisenetv1")
class BiSeNetV1(Network):
    """BiSeNet with ResNet-18: 12.9 M parameters; a shallow spatial path beside a deep context path, joined at stride 8.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). The two auxiliary heads are supervision.
    Convolutions start from He's normal init, those of ResNet by fan-out, the others by fan-in ("coincheung": sqrt 2
    smaller). The results on the test set and the speed are of the authors' real-time build, whose classifier reads 128
    channels.

    Args:
        num_classes: number of classes.
        variant: "torchseg", the authors' own code (github.com/ycszen/TorchSeg, MIT, R18): bilinear resizes
            with align_corners=True, fusion gate of two 1x1 without BatchNorm, 64 channels before the classifier. Or
            "coincheung" (github.com/CoinCheung/BiSeNet): nearest neighbour in the context path, logits resized with
            align_corners=False, fusion gate of one 1x1 with BatchNorm, 256 channels before the classifier.
        weights: local file of this network's state dict.
        pretrained: True downloads torchvision's ImageNet weights of ResNet-18, a file holds them.
    """

    paper = "Yu, Wang, Peng, Gao, Yu, Sang, ECCV 2018, arXiv:1808.00897"
    roles: Roles = {
        "backbone": "trunk.layer4",
        "stages": ("trunk.layer1", "trunk.layer2", "trunk.layer3", "trunk.layer4"),
    }
    results = (
        Result("cityscapes", "val", 76.28, source="repository, in windows of 1024"),
        Result("cityscapes", "test", 74.7, 65.5, "Titan Xp", (768, 1536), source="Papers with Code, STDC's repository"),
    )

    def __init__(
        self,
        num_classes: int,
        variant: str = "torchseg",
        weights: str | Path | None = None,
        pretrained: bool | str | Path = False,
    ) -> None:
        if variant not in VARIANTS:
            raise UserError(f"unknown variant {variant!r} of BiSeNetV1; {nearest(variant, VARIANTS)}")
        super().__init__(num_classes, Preprocess(MEAN, STD))
        own = VARIANTS[variant]
        self.resize_logits = own.resize_logits
        self.trunk = ResNetTrunk(DEPTHS["resnet18"])
        self.spatial = nn.Sequential(
            ConvNormAct(3, 64, 7, 2), ConvNormAct(64, 64, 3, 2), ConvNormAct(64, 64, 3, 2), ConvNormAct(64, 128, 1)
        )
        self.context = ContextPath(256, 512, own.resize)
        self.fusion = AttentionFusion(128 + 128, 256, own.gate(256))
        self.head = ConvNormAct(256, own.head, 3)
        self.classifier = nn.Conv2d(own.head, num_classes, 1)
        self.feature_info = (
            FeatureInfo("spatial", 128, 8),
            FeatureInfo("trunk.layer1", 64, 4),
            FeatureInfo("trunk.layer2", 128, 8),
            FeatureInfo("trunk.layer3", 256, 16),
            FeatureInfo("trunk.layer4", 512, 32),
            FeatureInfo("context.up16", 128, 16),
            FeatureInfo("context", 128, 8),
            FeatureInfo("fusion", 256, 8),
            FeatureInfo("head", own.head, 8),
            FeatureInfo("classifier", num_classes, 8),
        )
        he_init((self.trunk,), mode="fan_out")
        he_init((self.spatial, self.context, self.fusion, self.head, self.classifier), slope=own.slope)
        if pretrained:
            load_trunk(self.trunk, imagenet_weights("resnet18", pretrained))
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        spatial = self.spatial(x)
        *_, middle, deep = self.trunk(x)
        context = self.context(middle, deep, spatial.shape[-2:])
        return self.resize_logits(self.classifier(self.head(self.fusion(spatial, context))), x.shape[-2:])


def he_init(parts: Iterable[nn.Module], mode: Literal["fan_in", "fan_out"] = "fan_in", slope: float = 0.0) -> None:
    """He et al. (2015) normal init of every convolution for a leaky ReLU of ``slope``; biases zero.

    Slope 0 is a ReLU, variance 2 / fan; slope 1 no activation, variance 1 / fan.
    """
    for module in (module for part in parts for module in part.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=slope, mode=mode)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
