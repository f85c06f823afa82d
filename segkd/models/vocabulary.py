"""Every block of ``blocks.py`` and ``fusion.py`` at equal channels: what ``segkd bench blocks`` compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import nn

from segkd.models import blocks, fusion

STANDARD = "3x3 convolution"


class Sample(NamedTuple):
    """One block that makes C channels.

    Attributes:
        build: C -> the block.
        maps: (channels in units of C, stride) of each map that it takes; stride 2 is half the comparison's size.
    """

    build: Callable[[int], nn.Module]
    maps: Sequence[tuple[float, int]] = ((1, 1),)


HALF_AND_FULL = ((2, 2), (1, 1))


SAMPLES: dict[str, Sample] = {
    STANDARD: Sample(lambda c: blocks.ConvNormAct(c, c)),
    "1x1 convolution": Sample(lambda c: blocks.ConvNormAct(c, c, 1)),
    "3x3, dilated by 4": Sample(lambda c: blocks.ConvNormAct(c, c, dilation=4)),
    "pre-activation 3x3": Sample(lambda c: blocks.NormActConv(c, c, 3)),
    "depthwise separable": Sample(lambda c: blocks.DepthwiseSeparable(c, c)),
    "grouped by 4, shuffled": Sample(lambda c: blocks.GroupedShuffle(c, c, groups=4)),
    "asymmetric 3x1, 1x3": Sample(lambda c: blocks.Asymmetric(c)),
    "asymmetric 5x1, 1x5": Sample(lambda c: blocks.Asymmetric(c, 5)),
    "asymmetric, depthwise": Sample(lambda c: blocks.Asymmetric(c, groups=c)),
    "residual, basic": Sample(lambda c: blocks.ResidualBasic(c, c)),
    "residual, bottleneck": Sample(lambda c: blocks.ResidualBottleneck(c, c // 4)),
    "inverted residual, 6 times": Sample(lambda c: blocks.InvertedResidual(c, c, 1, 6)),
    "ESP, split and dilated": Sample(lambda c: blocks.SpatialPyramid(c, c)),
    "3x3 of stride 2": Sample(lambda c: blocks.ConvNormAct(c, c, stride=2)),
    "3x3 of stride 2, max pooling": Sample(lambda c: blocks.DownConcat(c // 2, c), ((0.5, 1),)),
    "pyramid pooling": Sample(lambda c: fusion.PyramidPooling(c, c)),
    "fast attention": Sample(lambda c: fusion.FastAttention(c)),
    "upsampling, nearest, 1x1": Sample(lambda c: fusion.Upsample(2 * c, c, "nearest"), HALF_AND_FULL),
    "upsampling, bilinear, 1x1": Sample(lambda c: fusion.Upsample(2 * c, c, "bilinear"), HALF_AND_FULL),
    "upsampling, transposed 3x3, ReLU": Sample(lambda c: blocks.TransposedNormAct(2 * c, c), ((2, 2),)),
    "upsampling, transposed": Sample(lambda c: fusion.Upsample(2 * c, c, "transposed"), HALF_AND_FULL),
    "upsampling, pixel shuffle": Sample(lambda c: fusion.Upsample(2 * c, c, "pixel_shuffle"), HALF_AND_FULL),
    "skip, added": Sample(lambda c: fusion.AddSkip(c, c), ((1, 1), (1, 2))),
    "skip, concatenated": Sample(lambda c: fusion.ConcatSkip(c, c, c), ((1, 1), (1, 2))),
    "feature fusion": Sample(lambda c: fusion.FeatureFusion(c, c, c), ((1, 1), (1, 4))),
}
