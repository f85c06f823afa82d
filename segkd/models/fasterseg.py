"""FasterSeg and its teacher, as searched and published (Chen et al., ICLR 2020, arXiv:1912.10917)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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

#: kind of a cell and the channels it makes: "conv2" is two 3x3 convolutions; "zoom" one, "zoom2" two at half the size
Cell = tuple[str, int]
KINDS = {"zoom": 1, "zoom2": 2}


class Architecture(NamedTuple):
    """What the search found, once cells that only skip are gone.

    Attributes:
        stem: channels at strides 2, 4 and 8.
        trunk: cells at stride 8 that both branches share.
        deep: cells of the branch to stride 32, at strides 8, 16 and 32.
        shallow: cells of the branch to stride 16, at strides 8 and 16.
        width: channels of each branch when fused at stride 8.
    """

    stem: tuple[int, int, int]
    trunk: tuple[Cell, ...]
    deep: tuple[tuple[Cell, ...], tuple[Cell, ...], tuple[Cell, ...]]
    shallow: tuple[tuple[Cell, ...], tuple[Cell, ...]]
    width: int


STUDENT = Architecture(
    stem=(32, 64, 64),
    trunk=(("conv2", 32), ("conv2", 32), ("zoom2", 32)),
    deep=(
        (),
        (("zoom", 128), ("zoom2", 64), ("zoom2", 64), ("zoom2", 64)),
        (("zoom2", 128), ("zoom2", 128), ("zoom2", 256)),
    ),
    shallow=(
        (("zoom2", 32), ("conv2", 32)),
        (("conv2", 64), ("zoom2", 64), ("zoom2", 192), ("zoom2", 128)),
    ),
    width=64,
)
TEACHER = Architecture(
    stem=(48, 96, 96),
    trunk=(("zoom", 96), ("zoom2", 96), ("zoom2", 96), ("zoom2", 96)),
    deep=(
        (("zoom2", 96),),
        (("zoom2", 192), ("zoom2", 192), ("zoom", 192), *[("zoom2", 192)] * 5),
        (("zoom2", 384), ("conv2", 384), ("conv2", 384)),
    ),
    shallow=(
        (),
        (("zoom2", 192), ("conv2", 192), ("zoom2", 192), ("zoom", 192), *[("zoom2", 192)] * 8),
    ),
    width=96,
)


class Zoomed(nn.Module):
    """The zoomed convolution: 3x3 convolutions at half the size, and back up before the last ReLU.

    (N, cin, H, W) -> (N, cout, H, W); with ``stride`` 2 it stays at half the size, rounded up.
    """

    def __init__(self, cin: int, cout: int, convolutions: int, stride: int = 1) -> None:
        super().__init__()
        first = [ConvNormAct(cin, cout)] if convolutions == 2 else []
        self.body = nn.Sequential(*first, ConvNormAct(cout if first else cin, cout, act=False))
        self.stride = stride
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        half = resize_corners(x, [(length + 1) // 2 for length in size])
        out = self.body(half)
        rectified: Tensor = self.act(resize_corners(out, size) if self.stride == 1 else out)
        return rectified


def double_conv(cin: int, cout: int, stride: int = 1) -> nn.Sequential:
    """Two 3x3 convolutions, each with BatchNorm and ReLU."""
    return nn.Sequential(ConvNormAct(cin, cout, 3, stride), ConvNormAct(cout, cout))


def build_cell(kind: str, cin: int, cout: int, stride: int) -> nn.Module:
    """One cell of the searched network, by its name in ``KINDS``, or two convolutions in a row ("conv2")."""
    return double_conv(cin, cout, stride) if kind == "conv2" else Zoomed(cin, cout, KINDS[kind], stride)


def stage(cin: int, cells: Sequence[Cell], stride: int) -> nn.Sequential:
    """A row of cells, the first of stride ``stride``; of no cells, the identity."""
    widths = [cin, *(cout for _, cout in cells)]
    strides = [stride, *[1] * len(cells)]
    return nn.Sequential(*(build_cell(kind, widths[i], cout, strides[i]) for i, (kind, cout) in enumerate(cells)))


class Concat(nn.Module):
    """Concatenation as a layer of its own, so that an auxiliary head can tap it."""

    def forward(self, *maps: Tensor) -> Tensor:
        return torch.cat(maps, dim=1)


class Merge(nn.Module):
    """A 1x1 on the coarse map, resized, concatenated with the fine one, projected by a 3x3."""

    def __init__(self, coarse: int, fine: int, cout: int) -> None:
        super().__init__()
        self.reduce = ConvNormAct(coarse, cout, 1)
        self.project = ConvNormAct(cout + fine, cout, 3)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, coarse, h, w), (N, fine, H, W) -> (N, cout, H, W)."""
        out: Tensor = self.project(torch.cat([resize_corners(self.reduce(coarse), fine.shape[-2:]), fine], dim=1))
        return out


@NETWORKS.register("fasterseg")
class FasterSeg(Network):
    """FasterSeg: 3.4 M parameters; two searched branches, to stride 32 and 16, merged at stride 8.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). The architecture that the authors publish for
    the student, without the channel attention of its fusion, which they build and never run. Halves are rounded up,
    so that odd sizes work; at multiples of 64 all is as published (every resize keeps the corners). Convolutions start
    from He's normal init by fan-in. Its two auxiliary heads are supervision, on ``joined16`` and ``deep32``.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
    """

    paper = "Chen, Gong, Liu, Zhang, Li, Wang, ICLR 2020, arXiv:1912.10917"
    # of the branch that goes to stride 32
    roles: Roles = {"backbone": "deep32", "stages": ("stem.1", "deep8", "deep16", "deep32")}
    results: Sequence[Result] = (
        Result("cityscapes", "val", 73.1, 163.9, "GTX 1080 Ti, TensorRT", (1024, 2048), source="repository"),
        Result("cityscapes", "test", 71.5, 163.9, "GTX 1080 Ti, TensorRT", (1024, 2048), source="repository"),
    )
    architecture = STUDENT

    def __init__(self, num_classes: int, weights: str | Path | None = None) -> None:
        super().__init__(num_classes)
        found = self.architecture
        first, second, third = found.stem
        self.stem = nn.Sequential(
            ConvNormAct(3, first, 3, 2), double_conv(first, second, 2), double_conv(second, third, 2)
        )
        self.trunk = stage(third, found.trunk, 1)
        trunk = found.trunk[-1][1]
        deep8, shallow8 = (cells[-1][1] if cells else trunk for cells in (found.deep[0], found.shallow[0]))
        deep16, deep32, shallow16 = (cells[-1][1] for cells in (*found.deep[1:], found.shallow[1]))
        self.deep8, self.shallow8 = stage(trunk, found.deep[0], 1), stage(trunk, found.shallow[0], 1)
        self.deep16, self.shallow16 = stage(deep8, found.deep[1], 2), stage(shallow8, found.shallow[1], 2)
        self.deep32 = stage(deep16, found.deep[2], 2)
        self.joined16 = Concat()
        width = found.width
        self.merge16 = Merge(deep32, deep16, 2 * width)
        self.merge_deep8 = Merge(2 * width, deep8, width)
        self.merge_shallow8 = Merge(shallow16, shallow8, width)
        self.fusion = ConvNormAct(2 * width, 2 * width, 1)
        self.head = ConvNormAct(2 * width, 2 * width, 3)
        self.classifier = nn.Conv2d(2 * width, num_classes, 1)
        self.feature_info = (
            FeatureInfo("stem", third, 8),
            FeatureInfo("trunk", trunk, 8),
            FeatureInfo("deep16", deep16, 16),
            FeatureInfo("shallow16", shallow16, 16),
            FeatureInfo("joined16", deep16 + shallow16, 16),
            FeatureInfo("deep32", deep32, 32),
            FeatureInfo("merge16", 2 * width, 16),
            FeatureInfo("fusion", 2 * width, 8),
            FeatureInfo("head", 2 * width, 8),
            FeatureInfo("classifier", num_classes, 8),
        )
        kaiming_init(self)
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        trunk = self.trunk(self.stem(x))
        deep8, shallow8 = self.deep8(trunk), self.shallow8(trunk)
        deep16, shallow16 = self.deep16(deep8), self.shallow16(shallow8)
        self.joined16(deep16, shallow16)
        deep = self.merge_deep8(self.merge16(self.deep32(deep16), deep16), deep8)
        fused = self.fusion(torch.cat([deep, self.merge_shallow8(shallow16, shallow8)], dim=1))
        return resize_corners(self.classifier(self.head(fused)), x.shape[-2:])


@NETWORKS.register("fasterseg_teacher")
class FasterSegTeacher(FasterSeg):
    """The network searched together with FasterSeg to teach it: 22.1 M parameters, the same graph, more cells, wider.

    Input, output and arguments are FasterSeg's.
    """

    results = ()
    architecture = TEACHER
