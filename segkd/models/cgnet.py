"""CGNet: Context Guided Network (Wu, Tang, Zhang, Cao, Zhang, IEEE TIP 2020, arXiv:1811.08201)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
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
from segkd.models.blocks import ConvNormAct, NormAct, convolution

CITYSCAPES_MEAN = (73.16, 82.91, 72.39)  # red, green, blue; neither CGNet nor DABNet divides by a deviation
EPS = 1e-3


class GlobalGate(nn.Module):
    """Scales each channel by what the mean of the whole map says (squeeze and excitation).

    (N, C, H, W) -> the same; the gate has ``channels // reduction`` hidden units.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        hidden = channels // reduction
        self.gate = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.gate(self.pool(x).flatten(1))[:, :, None, None]
        return out


class LocalAndSurrounding(nn.Module):
    """Two depthwise 3x3 side by side, plain and dilated, concatenated, BatchNorm and PReLU: C -> 2 C channels."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.local = convolution(channels, channels, 3, groups=channels)
        self.surrounding = convolution(channels, channels, 3, dilation=dilation, groups=channels)
        self.norm_act = NormAct(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm_act(torch.cat([self.local(x), self.surrounding(x)], dim=1))
        return out


class ContextGuided(nn.Module):
    """The CG block: 1x1 to half the channels, local and surrounding context, global gate; plus identity."""

    def __init__(self, channels: int, dilation: int, reduction: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(
            ConvNormAct(channels, half, 1, act="prelu", eps=EPS),
            LocalAndSurrounding(half, dilation),
            GlobalGate(channels, reduction),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        out: Tensor = x + self.body(x)
        return out


class ContextGuidedDown(nn.Sequential):
    """The CG block that halves the size: a 3x3 of stride 2, the pair at full width, 1x1 back to ``cout``, the gate."""

    def __init__(self, cin: int, cout: int, dilation: int, reduction: int) -> None:
        super().__init__(
            ConvNormAct(cin, cout, 3, 2, act="prelu", eps=EPS),
            LocalAndSurrounding(cout, dilation),
            convolution(2 * cout, cout, 1),
            GlobalGate(cout, reduction),
        )


def stage(channels: int, blocks: int, dilation: int, reduction: int) -> nn.Sequential:
    """A row of CG blocks of one dilation; (N, C, H, W) -> the same."""
    return nn.Sequential(*(ContextGuided(channels, dilation, reduction) for _ in range(blocks)))


@NETWORKS.register("cgnet")
class CGNet(Network):
    """CGNet, M3N21 by default: 0.50 M parameters, blocks of local, surrounding and global context; logits at stride 8.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W), as in the authors' code. Convolutions start
    from He's normal distribution by fan-in, the gates' linear layers from torch's default. Images are RGB in 0..255
    minus ``mean`` the wrong way round: the authors take blue's mean from red and red's from blue.

    Args:
        num_classes: number of classes.
        m, n: blocks at stride 4 and 8, the one that halves the size among them.
        dropout: probability of dropping whole channels before the classifier; the authors name 0.1 but leave it out.
        weights: local file of this network's state dict.
        mean: of the training images' red, green and blue in 0..255.
    """

    paper = "Wu, Tang, Zhang, Cao, Zhang, IEEE TIP 2020, arXiv:1811.08201"
    roles: Roles = {"backbone": "join3", "stages": ("join1", "join2", "join3")}
    results = (Result("cityscapes", "test", 64.8, source="paper"),)

    def __init__(
        self,
        num_classes: int,
        m: int = 3,
        n: int = 21,
        dropout: float = 0.0,
        weights: str | Path | None = None,
        mean: Sequence[float] = CITYSCAPES_MEAN,
    ) -> None:
        if m < 2 or n < 2:
            raise UserError(f"CGNet needs m >= 2 and n >= 2 blocks (the first of each halves the size), got {m}, {n}")
        super().__init__(num_classes, Preprocess(mean[::-1], (1.0, 1.0, 1.0), scale=1.0))
        self.stem = nn.Sequential(
            *(ConvNormAct(cin, 32, 3, stride, act="prelu", eps=EPS) for cin, stride in ((3, 2), (32, 1), (32, 1)))
        )
        self.join1 = NormAct(32 + 3)
        self.down2 = ContextGuidedDown(32 + 3, 64, dilation=2, reduction=8)
        self.stage2 = stage(64, m - 1, dilation=2, reduction=8)
        self.join2 = NormAct(64 + 64 + 3)
        self.down3 = ContextGuidedDown(64 + 64 + 3, 128, dilation=4, reduction=16)
        self.stage3 = stage(128, n - 1, dilation=4, reduction=16)
        self.join3 = NormAct(128 + 128)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = convolution(128 + 128, num_classes, 1)
        self.feature_info = describe(num_classes)
        kaiming_init(self)
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        half = F.avg_pool2d(x, 3, 2, 1)
        quarter = F.avg_pool2d(half, 3, 2, 1)
        level1 = self.join1(torch.cat([self.stem(x), half], dim=1))
        down = self.down2(level1)
        level2 = self.join2(torch.cat([self.stage2(down), down, quarter], dim=1))
        down = self.down3(level2)
        level3 = self.join3(torch.cat([down, self.stage3(down)], dim=1))
        return resize_to(self.classifier(self.dropout(level3)), x.shape[-2:])


def describe(num_classes: int) -> tuple[FeatureInfo, ...]:
    """Taps of a CGNet: what joins a stage's first and last map, and the last map alone."""
    return (
        FeatureInfo("join1", 35, 2),
        FeatureInfo("stage2", 64, 4),
        FeatureInfo("join2", 131, 4),
        FeatureInfo("stage3", 128, 8),
        FeatureInfo("join3", 256, 8),
        FeatureInfo("classifier", num_classes, 8),
    )
