"""STDC-Seg: Rethinking BiSeNet For Real-time Semantic Segmentation (Fan et al., CVPR 2021, arXiv:2104.13188)."""

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
    load_weights,
    resize_corners,
)
from segkd.models.bisenetv1 import AttentionFusion, ContextPath, he_init, squeeze_gate
from segkd.models.blocks import ConvNormAct, convolution
from segkd.models.fusion import resize_nearest


class ShortTermConcat(nn.Module):
    """STDC module: four convolutions in a row, of a half, a quarter, and twice an eighth of ``cout``, concatenated.

    (N, cin, H, W) -> (N, cout, H / stride, W / stride). The first convolution is 1x1, the others 3x3. With stride 2 a
    depthwise 3x3 without ReLU halves the size before the second, and an average pooling that of the first for the
    concatenation.
    """

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__()
        half, quarter, eighth = cout // 2, cout // 4, cout // 8
        self.first = ConvNormAct(cin, half, 1)
        self.down: nn.Module = nn.Identity()
        self.skip: nn.Module = nn.Identity()
        if stride > 1:
            self.down = ConvNormAct(half, half, 3, stride, groups=half, act=False)
            self.skip = nn.AvgPool2d(3, stride, 1)
        self.rest = nn.ModuleList(
            (ConvNormAct(half, quarter, 3), ConvNormAct(quarter, eighth, 3), ConvNormAct(eighth, eighth, 3))
        )

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        parts, x = [self.skip(first)], self.down(first)
        for conv in self.rest:
            x = conv(x)
            parts.append(x)
        return torch.cat(parts, dim=1)


def stage(cin: int, cout: int, blocks: int) -> nn.Sequential:
    """``blocks`` STDC modules, the first of which halves the size."""
    rest = (ShortTermConcat(cout, cout) for _ in range(blocks - 1))
    return nn.Sequential(ShortTermConcat(cin, cout, 2), *rest)


class STDC(Network):
    """What STDC1-Seg and STDC2-Seg share: an STDC encoder under BiSeNet's context path and fusion, no spatial path.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). As in the authors' code, maps go up by nearest
    neighbour and the logits bilinearly with align_corners=True. Convolutions of the encoder start from He's normal init
    by fan-out, the others with variance 1 / fan-in. The encoder's layers for ImageNet classification, which the
    published network carries along unused, are left out. The two auxiliary heads and the detail head are supervision.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
    """

    paper = "Fan, Lai, Huang, Wei, Chai, Luo, Wei, CVPR 2021, arXiv:2104.13188"
    # a stage joins maps that are rectified one by one, so no map exists before: it is its own
    roles: Roles = {
        "backbone": "stage5",
        "stages": ("stem", "stage3", "stage4", "stage5"),
        "backbone_preact": "stage5",
        "stages_preact": ("stem.1.2@input", "stage3", "stage4", "stage5"),
    }
    blocks: tuple[int, int, int]

    def __init__(self, num_classes: int, weights: str | Path | None = None) -> None:
        super().__init__(num_classes)
        self.stem = nn.Sequential(ConvNormAct(3, 32, 3, 2), ConvNormAct(32, 64, 3, 2))
        self.stage3 = stage(64, 256, self.blocks[0])
        self.stage4 = stage(256, 512, self.blocks[1])
        self.stage5 = stage(512, 1024, self.blocks[2])
        self.context = ContextPath(512, 1024, resize_nearest)
        self.fusion = AttentionFusion(256 + 128, 256, squeeze_gate(256, reduction=4))
        self.head = ConvNormAct(256, 256, 3)
        self.classifier = convolution(256, num_classes, 1)
        self.feature_info = (
            FeatureInfo("stem", 64, 4),
            FeatureInfo("stage3", 256, 8),
            FeatureInfo("stage4", 512, 16),
            FeatureInfo("stage5", 1024, 32),
            FeatureInfo("context.up16", 128, 16),
            FeatureInfo("context", 128, 8),
            FeatureInfo("fusion", 256, 8),
            FeatureInfo("head", 256, 8),
            FeatureInfo("classifier", num_classes, 8),
        )
        he_init((self.stem, self.stage3, self.stage4, self.stage5), mode="fan_out")
        he_init((self.context, self.fusion, self.head, self.classifier), slope=1.0)
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        detail = self.stage3(self.stem(x))
        middle = self.stage4(detail)
        context = self.context(middle, self.stage5(middle), detail.shape[-2:])
        return resize_corners(self.classifier(self.head(self.fusion(detail, context))), x.shape[-2:])


@NETWORKS.register("stdc1")
class STDC1(STDC):
    """STDC1-Seg: 8.28 M parameters; two STDC modules at each of stride 8, 16 and 32. See ``STDC``."""

    blocks = (2, 2, 2)
    results = (
        Result("cityscapes", "test", 71.9, 250.4, "GTX 1080 Ti", (512, 1024)),
        Result("cityscapes", "val", 72.22, 250.4, "GTX 1080 Ti", (512, 1024), source="repository"),
        Result("cityscapes", "val", 74.50, 126.7, "GTX 1080 Ti", (768, 1536), source="repository"),
    )


@NETWORKS.register("stdc2")
class STDC2(STDC):
    """STDC2-Seg: 12.3 M parameters; four, five and three STDC modules at stride 8, 16 and 32. See ``STDC``."""

    blocks = (4, 5, 3)
    results = (
        Result("cityscapes", "test", 76.8, 97.0, "GTX 1080 Ti", (768, 1536)),
        Result("cityscapes", "val", 74.24, 188.6, "GTX 1080 Ti", (512, 1024), source="repository"),
        Result("cityscapes", "val", 77.04, 97.0, "GTX 1080 Ti", (768, 1536), source="repository"),
    )
