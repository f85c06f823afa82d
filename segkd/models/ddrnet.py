"""DDRNet: Deep Dual-resolution Networks for Semantic Segmentation of Road Scenes (Hong et al. 2021, arXiv:2101.06085).

Names: "detail" is the branch that stays at stride 8, "context" the one that goes on to stride 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.base import NETWORKS, FeatureInfo, Network, Result, Roles, fan_out_init, load_weights, resize_to
from segkd.models.blocks import ConvNormAct, NormActConv, ResidualBasic, ResidualBottleneck
from segkd.models.fusion import AddSkip

#: kernel and stride of DAPPM's average pools
POOLS = ((5, 2), (9, 4), (17, 8))


def stem(width: int) -> nn.Sequential:
    """(N, 3, H, W) -> (N, width, H/4, W/4); these two convolutions have biases."""
    return nn.Sequential(ConvNormAct(3, width, 3, 2, bias=True), ConvNormAct(width, width, 3, 2, bias=True))


def stage(cin: int, cout: int, blocks: int, stride: int = 1) -> nn.Sequential:
    """``blocks`` basic blocks, the last without its ReLU: what is added by the other branch meets signed features."""
    widths = [cin] + [cout] * (blocks - 1)
    return nn.Sequential(
        *(
            ResidualBasic(width, cout, stride if i == 0 else 1, final_act=i < blocks - 1)
            for i, width in enumerate(widths)
        )
    )


def bottleneck(cin: int, width: int, stride: int = 1) -> ResidualBottleneck:
    """1x1, 3x3, 1x1 to twice ``width``, without a ReLU after the sum."""
    return ResidualBottleneck(cin, width, stride, expansion=2, final_act=False)


class AddProjected(nn.Module):
    """Adds the coarse map to the fine one: a convolution with BatchNorm to its channels, then bilinear to its size."""

    def __init__(self, fine: int, coarse: int, kernel: int = 1) -> None:
        super().__init__()
        self.project = ConvNormAct(coarse, fine, kernel, act=False)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(N, fine, H, W), (N, coarse, h, w) -> (N, fine, H, W)."""
        return fine + resize_to(self.project(coarse), fine.shape[-2:])


class AddDown(nn.Module):
    """Adds the fine map to the coarse one: 3x3 convolutions of stride 2 to the channels in ``widths``.

    Each has BatchNorm, and ReLU but for the last.
    """

    def __init__(self, fine: int, widths: Sequence[int]) -> None:
        super().__init__()
        sources = (fine, *widths[:-1])
        self.down = nn.Sequential(
            *(
                ConvNormAct(a, b, 3, 2, act=i < len(widths) - 1)
                for i, (a, b) in enumerate(zip(sources, widths, strict=True))
            )
        )

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, coarse, h, w), (N, fine, H, W) -> (N, coarse, h, w)."""
        out: Tensor = coarse + self.down(fine)
        return out


def pooled_levels(cin: int, width: int) -> nn.ModuleList:
    """The three average pools, whose zero padding counts, and the global one; each then BatchNorm, ReLU, 1x1."""
    pools: list[nn.Module] = [nn.AvgPool2d(kernel, stride, kernel // 2) for kernel, stride in POOLS]
    return nn.ModuleList(nn.Sequential(pool, NormActConv(cin, width, 1)) for pool in (*pools, nn.AdaptiveAvgPool2d(1)))


class DAPPM(nn.Module):
    """Deep Aggregation Pyramid Pooling: from fine to global, each pooled level is added to the one before and smoothed.

    y_0 = 1x1(x), y_i = 3x3(y_{i-1} + up(1x1(pool_i(x)))), i = 1..4; out = 1x1([y_0 .. y_4]) + 1x1(x). Every
    convolution comes after its BatchNorm and ReLU. (N, cin, H, W) -> (N, cout, H, W).
    """

    def __init__(self, cin: int, width: int, cout: int) -> None:
        super().__init__()
        self.point = NormActConv(cin, width, 1)
        self.levels = pooled_levels(cin, width)
        self.smooth = nn.ModuleList(NormActConv(width, width, 3) for _ in self.levels)
        self.project = NormActConv((len(self.levels) + 1) * width, cout, 1)
        self.shortcut = NormActConv(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.point(x)]
        for level, smooth in zip(self.levels, self.smooth, strict=True):
            parts.append(smooth(parts[-1] + resize_to(level(x), x.shape[-2:])))
        out: Tensor = self.project(torch.cat(parts, dim=1)) + self.shortcut(x)
        return out


class DDRNet(Network):
    """Two branches that exchange sums twice, DAPPM at the end of the deep one, logits made at stride 8.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). Every resize is bilinear by target size. The
    auxiliary head on ``to_detail3`` is supervision, not part of the network. ``pyramid``, at stride 64, can be tapped
    too; ``feature_info`` ends at stride 32.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
        width: channels of the stem; the detail branch has twice, the context branch up to sixteen times as many.
        head_width: channels between the head's two convolutions.
    """

    paper = "Hong, Pan, Sun, Jia, 2021, arXiv:2101.06085"
    # the context branch; its maps are rectified in the network's forward, where the next stage reads them
    roles: Roles = {
        "classifier": "classifier.2",
        "backbone": "context5",
        "stages": ("stage2@input", "context3@input", "context4@input", "context5@input", "context5"),
        "stages_preact": ("stage1", "stage2", "to_context3", "to_context4", "context5"),
    }

    def __init__(self, num_classes: int, weights: str | Path | None, width: int, head_width: int) -> None:
        super().__init__(num_classes)
        detail, out = 2 * width, 4 * width
        self.stem = stem(width)
        self.stage1 = stage(width, width, 2)
        self.stage2 = stage(width, detail, 2, stride=2)
        self.context3 = stage(detail, 4 * width, 2, stride=2)
        self.context4 = stage(4 * width, 8 * width, 2, stride=2)
        self.context5 = bottleneck(8 * width, 8 * width, stride=2)
        self.detail3 = stage(detail, detail, 2)
        self.detail4 = stage(detail, detail, 2)
        self.detail5 = bottleneck(detail, detail)
        self.to_detail3 = AddProjected(detail, 4 * width)
        self.to_detail4 = AddProjected(detail, 8 * width)
        self.to_context3 = AddDown(detail, (4 * width,))
        self.to_context4 = AddDown(detail, (4 * width, 8 * width))
        self.pyramid = DAPPM(16 * width, 128, out)
        self.fusion = AddSkip(out, out)
        self.head = NormActConv(out, head_width, 3)
        self.classifier = NormActConv(head_width, num_classes, 1, bias=True)
        self.feature_info = describe(width, head_width, num_classes)
        fan_out_init(self)
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        shared = F.relu(self.stage2(F.relu(self.stage1(self.stem(x)))))
        detail, context = self.detail3(shared), self.context3(shared)
        # Each branch gets what the other one was before the exchange.
        detail, context = self.to_detail3(detail, F.relu(context)), self.to_context3(context, F.relu(detail))
        detail, context = self.detail4(F.relu(detail)), self.context4(F.relu(context))
        detail, context = self.to_detail4(detail, F.relu(context)), self.to_context4(context, F.relu(detail))
        detail = self.detail5(F.relu(detail))
        context = self.pyramid(self.context5(F.relu(context)))
        return resize_to(self.classifier(self.head(self.fusion(detail, context))), x.shape[-2:])


def describe(width: int, head_width: int, num_classes: int) -> tuple[FeatureInfo, ...]:
    """Taps of a DDRNet; those of the two branches are signed, before their ReLU."""
    return (
        FeatureInfo("stage1", width, 4),
        FeatureInfo("stage2", 2 * width, 8),
        FeatureInfo("to_detail3", 2 * width, 8),
        FeatureInfo("to_context3", 4 * width, 16),
        FeatureInfo("to_detail4", 2 * width, 8),
        FeatureInfo("to_context4", 8 * width, 32),
        FeatureInfo("detail5", 4 * width, 8),
        FeatureInfo("fusion", 4 * width, 8),
        FeatureInfo("head", head_width, 8),
        FeatureInfo("classifier", num_classes, 8),
    )


@NETWORKS.register("ddrnet23_slim")
class DDRNet23Slim(DDRNet):
    """DDRNet-23-slim: 5.7 M parameters. Input, logits and arguments as those of ``DDRNet``."""

    results = (
        Result("cityscapes", "val", 77.8, source="repository"),
        Result("cityscapes", "test", 77.4, 102, "RTX 2080 Ti", (1024, 2048)),
        Result("camvid", "test", 74.7, 230, "RTX 2080 Ti"),
    )

    def __init__(self, num_classes: int, weights: str | Path | None = None) -> None:
        super().__init__(num_classes, weights, width=32, head_width=64)


@NETWORKS.register("ddrnet23")
class DDRNet23(DDRNet):
    """DDRNet-23: 20.1 M parameters. Input, logits and arguments as those of ``DDRNet``."""

    results = (
        Result("cityscapes", "val", 79.5, source="repository"),
        Result("cityscapes", "test", 79.4, 37.1, "RTX 2080 Ti", (1024, 2048)),
    )

    def __init__(self, num_classes: int, weights: str | Path | None = None) -> None:
        super().__init__(num_classes, weights, width=64, head_width=128)
