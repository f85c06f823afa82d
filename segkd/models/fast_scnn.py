"""Fast-SCNN: Fast Semantic Segmentation Network (Poudel, Liwicki, Cipolla, BMVC 2019, arXiv:1902.04502)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from segkd.models.base import (
    NETWORKS,
    FeatureInfo,
    Network,
    Result,
    Roles,
    kaiming_init,
    load_weights,
    resize_to,
)
from segkd.models.blocks import ConvNormAct, DepthwiseSeparable, InvertedResidual
from segkd.models.fusion import FeatureFusion, PyramidPooling

EXPAND = 6


def stage(cin: int, cout: int, blocks: int, stride: int) -> nn.Sequential:
    """``blocks`` inverted residuals; the first changes width and stride."""
    first = InvertedResidual(cin, cout, stride, EXPAND)
    return nn.Sequential(first, *(InvertedResidual(cout, cout, 1, EXPAND) for _ in range(blocks - 1)))


class GlobalFeatures(nn.Module):
    """Global feature extractor: three stages of inverted residuals and pyramid pooling, stride 8 -> 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = stage(64, 64, blocks=3, stride=2)
        self.stage2 = stage(64, 96, blocks=3, stride=2)
        self.stage3 = stage(96, 128, blocks=3, stride=1)
        self.pooling = PyramidPooling(128, 128)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 64, H/8, W/8) -> (N, 128, H/32, W/32)."""
        out: Tensor = self.pooling(self.stage3(self.stage2(self.stage1(x))))
        return out


@NETWORKS.register("fast_scnn")
class FastSCNN(Network):
    """Fast-SCNN: 1.14 M parameters, one shared shallow trunk, a deep branch at stride 32, logits made at stride 8.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). As in the paper, no ReLU between depthwise and
    pointwise convolutions and a dilated depthwise convolution in the fusion; the stem pads by 1 and every resize is
    bilinear by target size. Its auxiliary heads are supervision, not part of the network.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
        dropout: probability before the classifier.
    """

    paper = "Poudel, Liwicki, Cipolla, BMVC 2019, arXiv:1902.04502"
    roles: Roles = {
        "backbone": "global_features.stage3",
        "stages": (
            "learning_to_downsample.1",
            "learning_to_downsample",
            "global_features.stage1",
            "global_features.stage3",
        ),
    }
    results = (Result("cityscapes", "test", 68.0, 123.5, "Titan Xp", (1024, 2048)),)

    def __init__(self, num_classes: int, weights: str | Path | None = None, dropout: float = 0.1) -> None:
        super().__init__(num_classes)
        self.learning_to_downsample = nn.Sequential(
            ConvNormAct(3, 32, 3, stride=2), DepthwiseSeparable(32, 48, stride=2), DepthwiseSeparable(48, 64, stride=2)
        )
        self.global_features = GlobalFeatures()
        self.fusion = FeatureFusion(detail=64, coarse=128, cout=128)
        self.head = nn.Sequential(DepthwiseSeparable(128, 128), DepthwiseSeparable(128, 128))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(128, num_classes, 1)
        self.feature_info = (
            FeatureInfo("learning_to_downsample", 64, 8),
            FeatureInfo("global_features.stage1", 64, 16),
            FeatureInfo("global_features.stage2", 96, 32),
            FeatureInfo("global_features.stage3", 128, 32),
            FeatureInfo("global_features", 128, 32),
            FeatureInfo("fusion", 128, 8),
            FeatureInfo("head", 128, 8),
            FeatureInfo("classifier", num_classes, 8),
        )
        kaiming_init(self)
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        detail = self.learning_to_downsample(x)
        fused = self.fusion(detail, self.global_features(detail))
        return resize_to(self.classifier(self.dropout(self.head(fused))), x.shape[-2:])
