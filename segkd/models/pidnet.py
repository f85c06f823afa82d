"""PIDNet: A Real-time Semantic Segmentation Network Inspired by PID Controllers (Xu, Xiong, Bhattacharyya, CVPR 2023).

arXiv:2206.02066. Names: "detail" is the paper's P branch and "boundary" its D branch, both at stride 8; "context" is
the I branch, which goes on to stride 64.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.base import (
    NETWORKS,
    FeatureInfo,
    Network,
    Result,
    Roles,
    fan_out_init,
    load_weights,
    resize_corners,
    resize_to,
)
from segkd.models.blocks import ConvNormAct, NormActConv, ResidualBasic, convolution
from segkd.models.ddrnet import DAPPM, AddProjected, bottleneck, pooled_levels, stage, stem


class PixelAttentionFusion(nn.Module):
    """Pag: each pixel of the detail branch takes as much from the context as the two agree there (paper, 3.2).

    c = BN(1x1(context)); s = sigmoid(sum over channels of BN(1x1(detail)) * up(BN(1x1(c)))); out = (1 - s) detail
    + s up(c).

    Args:
        width: channels in which the two are compared.
    """

    def __init__(self, detail: int, context: int, width: int) -> None:
        super().__init__()
        self.project = ConvNormAct(context, detail, 1, act=False)
        self.key = ConvNormAct(detail, width, 1, act=False)
        self.query = ConvNormAct(detail, width, 1, act=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """(N, detail, H, W), (N, context, h, w) -> (N, detail, H, W)."""
        size = detail.shape[-2:]
        context = self.project(context)
        agreement = (self.key(detail) * resize_to(self.query(context), size)).sum(1, keepdim=True).sigmoid()
        out: Tensor = (1 - agreement) * detail + agreement * resize_to(context, size)
        return out


class PAPPM(nn.Module):
    """Parallel Aggregation Pyramid Pooling: DAPPM with one grouped 3x3 over all levels instead of one after the other.

    y_0 = 1x1(x), y_i = y_0 + up(1x1(pool_i(x))), i = 1..4; out = 1x1([y_0, 3x3 in 4 groups([y_1 .. y_4])]) + 1x1(x).
    Every convolution comes after its BatchNorm and ReLU. (N, cin, H, W) -> (N, cout, H, W).
    """

    def __init__(self, cin: int, width: int, cout: int) -> None:
        super().__init__()
        self.point = NormActConv(cin, width, 1)
        self.levels = pooled_levels(cin, width)
        count = len(self.levels)
        self.smooth = nn.Sequential(
            nn.BatchNorm2d(count * width),
            nn.ReLU(inplace=True),
            convolution(count * width, count * width, 3, groups=count),
        )
        self.project = NormActConv((count + 1) * width, cout, 1)
        self.shortcut = NormActConv(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        point = self.point(x)
        parallel = torch.cat([point + resize_to(level(x), x.shape[-2:]) for level in self.levels], dim=1)
        out: Tensor = self.project(torch.cat([point, self.smooth(parallel)], dim=1)) + self.shortcut(x)
        return out


class LightBoundaryFusion(nn.Module):
    """Light-Bag: BN(1x1(d + (1 - b) c)) + BN(1x1(c + b d)), with b = sigmoid(boundary): at boundaries detail decides.

    (N, C, H, W), (N, C, h, w), (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.detail = ConvNormAct(channels, channels, 1, act=False)
        self.context = ConvNormAct(channels, channels, 1, act=False)

    def forward(self, detail: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        context, share = resize_to(context, detail.shape[-2:]), boundary.sigmoid()
        out: Tensor = self.detail(detail + (1 - share) * context) + self.context(context + share * detail)
        return out


class BoundaryFusion(nn.Module):
    """Bag: 3x3(ReLU(BN(b d + (1 - b) c))), with b = sigmoid(boundary); shapes as ``LightBoundaryFusion``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = NormActConv(channels, channels, 3)

    def forward(self, detail: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        share = boundary.sigmoid()
        out: Tensor = self.mix(share * detail + (1 - share) * resize_to(context, detail.shape[-2:]))
        return out


class PIDNet(Network):
    """Three branches for detail, context and boundaries; the boundary branch decides who is believed where.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W), made at stride 8. Resizes inside are bilinear
    by target size; that of the logits aligns the corners, as the published training and evaluation do.

    The published heads on the detail branch (``detail4@input``) and the boundary branch (``boundary5@input``) see the
    maps after their ReLU; they are supervision, not part of the network. ``pyramid``, at stride 64, can be tapped too;
    ``feature_info`` ends at stride 32.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
        width: channels of the stem; detail and boundary have twice, the context branch up to sixteen times as many.
        large: PIDNet-L: one more block in every stage, DAPPM, the full boundary branch and fusion.
    """

    paper = "Xu, Xiong, Bhattacharyya, CVPR 2023, arXiv:2206.02066"
    # the context branch; its maps are rectified in the network's forward, where the next stage reads them
    roles: Roles = {
        "classifier": "classifier.2",
        "backbone": "context5",
        "stages": ("stage2@input", "context3@input", "context4@input", "context5@input", "context5"),
        "stages_preact": ("stage1", "stage2", "context3", "context4", "context5"),
    }

    def __init__(self, num_classes: int, weights: str | Path | None, width: int, large: bool = False) -> None:
        super().__init__(num_classes)
        early, late = (3, 4) if large else (2, 3)
        detail, out, head_width = 2 * width, 4 * width, 256 if large else 128
        self.stem = stem(width)
        self.stage1 = stage(width, width, early)
        self.stage2 = stage(width, detail, early, stride=2)
        self.context3 = stage(detail, 4 * width, late, stride=2)
        self.context4 = stage(4 * width, 8 * width, late, stride=2)
        self.context5 = nn.Sequential(bottleneck(8 * width, 8 * width, stride=2), bottleneck(16 * width, 8 * width))
        self.detail3 = stage(detail, detail, early)
        self.detail4 = stage(detail, detail, early)
        self.detail5 = bottleneck(detail, detail)
        self.to_detail3 = PixelAttentionFusion(detail, 4 * width, width)
        self.to_detail4 = PixelAttentionFusion(detail, 8 * width, width)
        thin = detail if large else width
        self.boundary3 = ResidualBasic(detail, thin, final_act=False)
        self.boundary4 = ResidualBasic(thin, detail, final_act=False) if large else bottleneck(thin, width)
        self.boundary5 = bottleneck(detail, detail)
        self.to_boundary3 = AddProjected(thin, 4 * width, kernel=3)
        self.to_boundary4 = AddProjected(detail, 8 * width, kernel=3)
        self.pyramid = DAPPM(16 * width, 112, out) if large else PAPPM(16 * width, 96, out)
        self.fusion = BoundaryFusion(out) if large else LightBoundaryFusion(out)
        self.head = NormActConv(out, head_width, 3)
        self.classifier = NormActConv(head_width, num_classes, 1, bias=True)
        self.feature_info = describe(width, head_width, num_classes)
        fan_out_init(self)
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        shared = F.relu(self.stage2(F.relu(self.stage1(self.stem(x)))))
        context = F.relu(self.context3(shared))
        detail = self.to_detail3(self.detail3(shared), context)
        boundary = self.to_boundary3(self.boundary3(shared), context)
        context = F.relu(self.context4(context))
        detail = self.to_detail4(self.detail4(F.relu(detail)), context)
        boundary = self.to_boundary4(self.boundary4(F.relu(boundary)), context)
        detail, boundary = self.detail5(F.relu(detail)), self.boundary5(F.relu(boundary))
        fused = self.fusion(detail, self.pyramid(self.context5(context)), boundary)
        logits = self.classifier(self.head(fused))
        return resize_corners(logits, x.shape[-2:])


def describe(width: int, head_width: int, num_classes: int) -> tuple[FeatureInfo, ...]:
    """Taps of a PIDNet; those of the three branches are signed, before their ReLU."""
    return (
        FeatureInfo("stage1", width, 4),
        FeatureInfo("stage2", 2 * width, 8),
        FeatureInfo("to_detail3", 2 * width, 8),
        FeatureInfo("context3", 4 * width, 16),
        FeatureInfo("to_detail4", 2 * width, 8),
        FeatureInfo("to_boundary4", 2 * width, 8),
        FeatureInfo("context4", 8 * width, 32),
        FeatureInfo("detail5", 4 * width, 8),
        FeatureInfo("boundary5", 4 * width, 8),
        FeatureInfo("fusion", 4 * width, 8),
        FeatureInfo("head", head_width, 8),
        FeatureInfo("classifier", num_classes, 8),
    )


RTX = "RTX 3090"


@NETWORKS.register("pidnet_s")
class PIDNetS(PIDNet):
    """PIDNet-S: 7.6 M parameters. Input, logits and arguments as those of ``PIDNet``."""

    results = (
        Result("cityscapes", "val", 78.8, 93.2, RTX, (1024, 2048), source="repository"),
        Result("cityscapes", "test", 78.6, 93.2, RTX, (1024, 2048), source="repository"),
        Result("camvid", "test", 80.1, 153.7, RTX, (720, 960), source="repository"),
    )

    def __init__(self, num_classes: int, weights: str | Path | None = None) -> None:
        super().__init__(num_classes, weights, width=32)


@NETWORKS.register("pidnet_m")
class PIDNetM(PIDNet):
    """PIDNet-M: 28.5 M parameters. Input, logits and arguments as those of ``PIDNet``."""

    results = (
        Result("cityscapes", "val", 79.9, 42.2, RTX, (1024, 2048), source="repository"),
        Result("cityscapes", "test", 79.8, 42.2, RTX, (1024, 2048), source="repository"),
        Result("camvid", "test", 82.0, 85.6, RTX, (720, 960), source="repository"),
    )

    def __init__(self, num_classes: int, weights: str | Path | None = None) -> None:
        super().__init__(num_classes, weights, width=64)


@NETWORKS.register("pidnet_l")
class PIDNetL(PIDNet):
    """PIDNet-L: 36.9 M parameters. Input, logits and arguments as those of ``PIDNet``."""

    results = (
        Result("cityscapes", "val", 80.9, 31.1, RTX, (1024, 2048), source="repository"),
        Result("cityscapes", "test", 80.6, 31.1, RTX, (1024, 2048), source="repository"),
    )

    def __init__(self, num_classes: int, weights: str | Path | None = None) -> None:
        super().__init__(num_classes, weights, width=64, large=True)
