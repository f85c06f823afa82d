"""PSPNet: Pyramid Scene Parsing Network (Zhao, Shi, Qi, Wang, Jia, CVPR 2017, arXiv:1612.01105)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from segkd.errors import UserError, nearest
from segkd.models.base import (
    NETWORKS,
    FeatureInfo,
    Network,
    Result,
    Roles,
    fan_out_init,
    load_weights,
    resize_corners,
)
from segkd.models.blocks import ConvNormAct, ResidualBasic, ResidualBottleneck
from segkd.models.fusion import PyramidPooling

Block = type[ResidualBasic] | type[ResidualBottleneck]
#: encoder -> its residual block, by how much that widens, and how many of them each stage has
ENCODERS: dict[str, tuple[Block, int, tuple[int, int, int, int]]] = {
    "resnet18": (ResidualBasic, 1, (2, 2, 2, 2)),
    "resnet34": (ResidualBasic, 1, (3, 4, 6, 3)),
    "resnet50": (ResidualBottleneck, 4, (3, 4, 6, 3)),
    "resnet101": (ResidualBottleneck, 4, (3, 4, 23, 3)),
    "resnet152": (ResidualBottleneck, 4, (3, 8, 36, 3)),
}
#: encoder -> what the repository reports: one scale, by a sliding window of 713 x 713
RESULTS = {
    "resnet50": (Result("cityscapes", "val", 77.30, source="repository"),),
    "resnet101": (Result("cityscapes", "val", 78.63, source="repository"),),
}
WIDTHS, STRIDES, DILATIONS = (64, 128, 256, 512), (1, 2, 1, 1), (1, 1, 2, 4)


class CornerPyramidPooling(PyramidPooling):
    """Pyramid pooling whose levels are resized back with align_corners=True, as PSPNet was trained."""

    def forward(self, x: Tensor) -> Tensor:
        levels = [resize_corners(level(x), x.shape[-2:]) for level in self.levels]
        out: Tensor = self.project(torch.cat([x, *levels], dim=1))
        return out


def residual_stage(block: Block, blocks: int, cin: int, cout: int, index: int) -> nn.Sequential:
    """Stage ``index`` (0 to 3) of the dilated ResNet; its first block changes width and, in the second, stride."""
    width, stride, dilation = WIDTHS[index], STRIDES[index], DILATIONS[index]
    rest = (block(cout, width, 1, dilation) for _ in range(blocks - 1))
    return nn.Sequential(block(cin, width, stride, dilation), *rest)


@NETWORKS.register("pspnet")
class PSPNet(Network):
    """PSPNet: a ResNet dilated to stride 8 under pyramid pooling; a teacher, 65.7 M parameters.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). As the authors' PyTorch code has it: three 3x3
    convolutions for a stem, dilations 2 and 4 in all blocks of the third and fourth stage, resizes with
    align_corners=True (exact, as there, where H - 1 and W - 1 are multiples of 8; by target size elsewhere).
    Convolutions of the encoder start from He's normal init by fan-out. The stem is not torchvision's, so torchvision's
    ImageNet weights do not fit. The auxiliary head is supervision on ``layer3``.

    Args:
        num_classes: number of classes.
        encoder: "resnet50", "resnet101" or "resnet152"; also "resnet18" and "resnet34", which are not in the paper.
        weights: local file of this network's state dict.
        dropout: probability of a whole channel before the classifier.
        head: channels of the pyramid's projection; 128 over ResNet-18 is the field's light PSPNet (Yang et al. 2022).
    """

    paper = "Zhao, Shi, Qi, Wang, Jia, CVPR 2017, arXiv:1612.01105"
    roles: Roles = {"backbone": "layer4", "stages": ("layer1", "layer2", "layer3", "layer4")}

    def __init__(
        self,
        num_classes: int,
        encoder: str = "resnet101",
        weights: str | Path | None = None,
        dropout: float = 0.1,
        head: int = 512,
    ) -> None:
        if encoder not in ENCODERS:
            raise UserError(f"unknown encoder {encoder!r} of PSPNet; {nearest(encoder, ENCODERS)}")
        super().__init__(num_classes)
        self.results = RESULTS.get(encoder, ())
        block, expansion, blocks = ENCODERS[encoder]
        widths = [width * expansion for width in WIDTHS]
        self.stem = nn.Sequential(
            ConvNormAct(3, 64, 3, 2), ConvNormAct(64, 64), ConvNormAct(64, 128), nn.MaxPool2d(3, 2, 1)
        )
        self.layer1 = residual_stage(block, blocks[0], 128, widths[0], 0)
        self.layer2 = residual_stage(block, blocks[1], widths[0], widths[1], 1)
        self.layer3 = residual_stage(block, blocks[2], widths[1], widths[2], 2)
        self.layer4 = residual_stage(block, blocks[3], widths[2], widths[3], 3)
        fan_out_init(self)  # the encoder alone: the rest keeps torch's own
        self.pooling = CornerPyramidPooling(widths[3], head, kernel=3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(head, num_classes, 1)
        stages = zip(("layer1", "layer2", "layer3", "layer4"), widths, (4, 8, 8, 8), strict=True)
        self.feature_info = (
            *(FeatureInfo(*stage) for stage in stages),
            FeatureInfo("pooling", head, 8),
            FeatureInfo("classifier", num_classes, 8),
        )
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return resize_corners(self.classifier(self.dropout(self.pooling(deep))), x.shape[-2:])
