"""SwiftNet: In Defense of Pre-trained ImageNet Architectures (Orsic et al., CVPR 2019, arXiv:1903.08469)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError, nearest
from segkd.models.base import (
    NETWORKS,
    FeatureInfo,
    Network,
    Preprocess,
    Result,
    Roles,
    fan_out_init,
    load_weights,
    resize_to,
)
from segkd.models.blocks import ConvNormAct, NormActConv, convolution
from segkd.models.resnet import DEPTHS, WIDTHS, ResNetTrunk, imagenet_weights, load_trunk

MEAN, STD = (73.15, 82.90, 72.3), (47.67, 48.49, 47.73)  # of Cityscapes, in RGB of 0..255
WIDTH = 128
GRIDS = (8, 4, 2)
LEVELS = 3
VARIANTS = ("authors", "paper")
PAPER = "Orsic, Kreso, Bevandic, Segvic, CVPR 2019, arXiv:1903.08469"


class SpatialPyramidPooling(nn.Module):
    """Average-pool to three grids shaped like the map, project each, resize back, join with the map itself.

    (N, cin, H, W) -> (N, 128, H, W). A grid of g rows has g W / H columns (rounded), so that its cells are square. All
    convolutions are 1x1 after BatchNorm and ReLU; the statistics move slowly (momentum 0.005).
    """

    momentum = 0.005

    def __init__(self, cin: int, cout: int = WIDTH) -> None:
        super().__init__()
        width = cout // len(GRIDS)
        self.reduce = NormActConv(cin, cout, momentum=self.momentum)
        self.levels = nn.ModuleList(NormActConv(cout, width, momentum=self.momentum) for _ in GRIDS)
        self.project = NormActConv(cout + width * len(GRIDS), cout, momentum=self.momentum)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        height, width = x.shape[-2:]
        parts = [x]
        for rows, level in zip(GRIDS, self.levels, strict=True):
            pooled = F.adaptive_avg_pool2d(x, (rows, max(1, round(rows * width / height))))
            parts.append(resize_to(level(pooled), (height, width)))
        out: Tensor = self.project(torch.cat(parts, dim=1))
        return out


class Blend(nn.Module):
    """The ladder's step up: coarse map resized, plus the skip connection, then BatchNorm, ReLU and a 3x3."""

    def __init__(self) -> None:
        super().__init__()
        self.blend = NormActConv(WIDTH, WIDTH, 3)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(N, 128, H, W), (N, 128, h, w) -> (N, 128, H, W)."""
        out: Tensor = self.blend(fine + resize_to(coarse, fine.shape[-2:]))
        return out


@NETWORKS.register("swiftnet_rn18")
class SwiftNetRN18(Network):
    """SwiftNetRN-18, single scale: ResNet-18, spatial pyramid pooling, a light ladder up to stride 4.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). Convolutions start from He's normal
    distribution by fan-out, the classifier as torch draws it.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict, loaded last.
        True downloads torchvision's ImageNet weights of the ResNet, a file holds them; nothing is downloaded otherwise.
        variant: where the maps for the ladder leave the ResNet: "paper": before the ReLU of each stage's last sum.
            "authors": after it, which their code comes to, as that ReLU works in place.
    """

    paper = PAPER
    roles: Roles = {
        "classifier": "classifier.2",
        "backbone": "trunk.layer4",
        "stages": ("trunk.layer1", "trunk.layer2", "trunk.layer3", "trunk.layer4"),
    }
    results = (Result("cityscapes", "test", 75.5, 39.9, "GTX 1080Ti", (1024, 2048)),)

    def __init__(
        self,
        num_classes: int,
        weights: str | Path | None = None,
        pretrained: bool | str | Path = False,
        variant: str = "authors",
    ) -> None:
        if variant not in VARIANTS:
            raise UserError(f"SwiftNetRN18 has no variant {variant!r}; {nearest(variant, VARIANTS)}")
        super().__init__(num_classes, Preprocess(MEAN, STD, scale=1.0))
        self.trunk = ResNetTrunk(DEPTHS["resnet18"], presum=variant == "paper")
        self.pooling = SpatialPyramidPooling(WIDTHS[-1])
        self.skip4, self.skip8, self.skip16 = (NormActConv(width, WIDTH) for width in WIDTHS[:3])
        self.up4, self.up8, self.up16 = (Blend() for _ in range(3))
        self.classifier = NormActConv(WIDTH, num_classes, bias=True)
        self.feature_info = (
            *(FeatureInfo(f"trunk.layer{k + 1}", width, 4 << k) for k, width in enumerate(WIDTHS)),
            FeatureInfo("pooling", WIDTH, 32),
            *(FeatureInfo(f"up{stride}", WIDTH, stride) for stride in (16, 8, 4)),
            FeatureInfo("classifier", num_classes, 4),
        )
        fan_out_init(self, but=self.classifier)
        if pretrained:
            load_trunk(self.trunk, imagenet_weights("resnet18", pretrained))
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third, fourth = self.trunk(x)
        ladder = self.up16(self.skip16(third), self.pooling(fourth))
        ladder = self.up8(self.skip8(second), ladder)
        ladder = self.up4(self.skip4(first), ladder)
        return resize_to(self.classifier(ladder), x.shape[-2:])


class LevelNorm(nn.ModuleList):
    """A BatchNorm for each level of the image pyramid: the levels' statistics differ, the convolutions do not."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.BatchNorm2d(channels) for _ in range(LEVELS))


class LevelBasic(nn.Module):
    """ResNet's basic block for all levels, up to the sum before its ReLU; the projection's BatchNorm is shared."""

    def __init__(self, cin: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(cin, width, 3, stride), LevelNorm(width)
        self.conv2, self.norm2 = convolution(width, width, 3), LevelNorm(width)
        plain = cin == width and stride == 1
        self.shortcut = nn.Identity() if plain else ConvNormAct(cin, width, 1, stride, act=False)

    def forward(self, x: Tensor, level: int) -> Tensor:
        out = F.relu(self.norm1[level](self.conv1(x)))
        summed: Tensor = self.norm2[level](self.conv2(out)) + self.shortcut(x)
        return summed


class LevelTrunk(nn.Module):
    """ResNet-18 for all levels of an image pyramid; (N, 3, H, W) -> the four stages' sums, each projected to 128."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = convolution(3, 64, 7, 2), LevelNorm(64)
        self.layers = nn.ModuleList(
            nn.ModuleList([LevelBasic(cin, width, stride), LevelBasic(width, width, 1)])
            for cin, width, stride in zip((64, *WIDTHS), WIDTHS, (1, 2, 2, 2), strict=False)
        )
        self.project = nn.ModuleList(convolution(width, WIDTH, 1) for width in WIDTHS)

    def forward(self, x: Tensor, level: int) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.norm[level](self.stem(x))), 3, 2, 1)
        maps = []
        for layer, project in zip(self.layers, self.project, strict=True):
            for block in layer:  # type: ignore[attr-defined]
                summed = block(x, level)
                x = F.relu(summed)
            maps.append(project(summed))
        return maps

    def load_imagenet(self, tensors: dict[str, Tensor]) -> None:
        """Copy torchvision's ResNet-18 in; every level's BatchNorm starts from its one."""
        state = self.state_dict()
        for key, value in tensors.items():
            for name in level_keys(key):
                state[name] = value
        self.load_state_dict(state)


def level_keys(key: str) -> list[str]:
    """The names in a ``LevelTrunk`` that take one of torchvision's tensors: one, or one for each level."""
    parts = key.split(".")
    if parts[0].startswith("layer"):
        parts = ["layers", str(int(parts[0][-1]) - 1), *parts[1:]]
    else:
        parts[0] = {"conv1": "stem", "bn1": "norm"}[parts[0]]
    name = ".".join(parts).replace(".downsample.", ".shortcut.").replace(".bn", ".norm")
    head, dot, leaf = name.rpartition(".")
    return [f"{head}.{k}{dot}{leaf}" for k in range(LEVELS)] if "norm" in head else [name]


@NETWORKS.register("swiftnet_rn18_pyramid")
class SwiftNetRN18Pyramid(Network):
    """SwiftNetRN-18 pyramid: one ResNet-18 on the image, its half and its quarter, a ladder from stride 128 up to 4.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). The levels share all convolutions but not
    the BatchNorm after them. Their maps leave the ResNet before the ReLU of each stage's last sum; those of equal
    stride against the image are summed into one skip connection. Here the levels' sizes round up, as every stride's
    map does, so that those maps have equal sizes at any H and W.

    Convolutions start as in ``swiftnet_rn18``. As in the authors' code, and unlike the paper's 12.9 M: 12.06 M
    parameters at 19 classes. No result of it is listed: the paper's are of its own network, and the repository
    names none.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict, loaded last.
        True downloads torchvision's ImageNet weights of the ResNet, a file holds them; nothing is downloaded otherwise.
    """

    paper = PAPER
    # of the image at its own size, the first of three; the sums before their ReLU, which the ladder reads
    roles: Roles = {
        "classifier": "classifier.2",
        "backbone": "trunk.layers.3.1#0",
        "stages": ("trunk.layers.0.1#0", "trunk.layers.1.1#0", "trunk.layers.2.1#0", "trunk.layers.3.1#0"),
    }

    def __init__(
        self, num_classes: int, weights: str | Path | None = None, pretrained: bool | str | Path = False
    ) -> None:
        super().__init__(num_classes, Preprocess(MEAN, STD, scale=1.0))
        self.trunk = LevelTrunk()
        self.up4, self.up8, self.up16, self.up32, self.up64 = (Blend() for _ in range(5))
        self.classifier = NormActConv(WIDTH, num_classes, bias=True)
        self.feature_info = (
            *(FeatureInfo(f"up{stride}", WIDTH, stride) for stride in (32, 16, 8, 4)),
            FeatureInfo("classifier", num_classes, 4),
        )
        fan_out_init(self, but=self.classifier)
        if pretrained:
            self.trunk.load_imagenet(imagenet_weights("resnet18", pretrained))
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.trunk(shrink(x, 2**level), level) for level in range(LEVELS)]
        fine, *skips = reversed(sum_by_stride(levels))
        for skip, blend in zip(skips, (self.up64, self.up32, self.up16, self.up8, self.up4), strict=True):
            fine = blend(skip, fine)
        return resize_to(self.classifier(fine), x.shape[-2:])


def shrink(image: Tensor, factor: int) -> Tensor:
    """(N, 3, H, W) -> (N, 3, ceil(H / factor), ceil(W / factor)), bicubic."""
    if factor == 1:
        return image
    size = [-(-length // factor) for length in image.shape[-2:]]
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False)


def sum_by_stride(levels: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Maps of all levels, each list from fine to coarse -> one map for each stride against the image (4, 8, ..., 128).

    Stage k of level l has the stride 4 * 2**(k + l).
    """
    sums: dict[int, Tensor] = {}
    for level, maps in enumerate(levels):
        for stage, feature in enumerate(maps):
            step = level + stage
            sums[step] = sums[step] + feature if step in sums else feature
    return [sums[step] for step in sorted(sums)]
