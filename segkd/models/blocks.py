"""Blocks and helpers that several networks share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from segkd.errors import UserError
from segkd.models.base import resize_to


class ConvNormAct(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU; (N, cin, H, W) -> (N, cout, ceil(H / stride), ceil(W / stride)).

    Args:
        kernel: odd; the padding keeps the size at stride 1.
        act: False leaves the ReLU out (a linear bottleneck).
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        padding = dilation * (kernel // 2)
        conv = nn.Conv2d(cin, cout, kernel, stride, padding, dilation, groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(cout), *([nn.ReLU(inplace=True)] if act else []))


class DepthwiseSeparable(nn.Sequential):
    """Depthwise 3x3 with BatchNorm, then pointwise 1x1 with BatchNorm and ReLU; no ReLU between the two."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__(
            ConvNormAct(cin, cin, 3, stride, groups=cin, act=False),
            ConvNormAct(cin, cout, 1),
        )


class InvertedResidual(nn.Module):
    """MobileNetV2's block: 1x1 to ``expand`` times the width, depthwise 3x3, linear 1x1; plus identity if it fits."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int) -> None:
        super().__init__()
        width = cin * expand
        self.shortcut = stride == 1 and cin == cout
        self.body = nn.Sequential(
            ConvNormAct(cin, width, 1),
            ConvNormAct(width, width, 3, stride, groups=width),
            ConvNormAct(width, cout, 1, act=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.shortcut else out


class PyramidPooling(nn.Module):
    """Average-pool to each of ``bins``, project, resize back, concatenate with the input, project (Zhao et al. 2017).

    (N, cin, H, W) -> (N, cout, H, W); each level is projected to ``cin / len(bins)`` channels.
    """

    def __init__(self, cin: int, cout: int, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        width = cin // len(bins)
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), ConvNormAct(cin, width, 1)) for size in bins
        )
        self.project = ConvNormAct(cin + width * len(bins), cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        out: Tensor = self.project(torch.cat([x, *(resize_to(level(x), size) for level in self.levels)], dim=1))
        return out


def kaiming_init(network: nn.Module) -> None:
    """He et al. (2015) normal init of every convolution by its fan-in (right for depthwise ones too); biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def norms_after_global_pooling(network: nn.Module) -> Iterator[nn.BatchNorm2d]:
    """Every BatchNorm that follows a pooling to 1x1 in the same ``nn.Sequential``.

    SyncBatchNorm is not among them: it also counts the other processes' samples.
    """
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        pooled = False
        for child in module:
            pooled |= isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1))
            if pooled:
                yield from (m for m in child.modules() if isinstance(m, nn.BatchNorm2d))


def refuse_batch_of_one(network: nn.Module, x: Tensor) -> None:
    """A clear error before BatchNorm meets the one value per channel that global pooling leaves of one sample."""
    if network.training and x.shape[0] == 1 and any(norm.training for norm in norms_after_global_pooling(network)):
        raise UserError(
            f"{type(network).__name__} cannot train with batch size 1: it normalises globally pooled features, "
            "one value per channel; use batch_size >= 2 per process (and drop_last), or its BatchNorm in eval"
        )
