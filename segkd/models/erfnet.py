"""ERFNet: Efficient Residual Factorized ConvNet (Romera, Alvarez, Bergasa, Arroyo, T-ITS 2018)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.base import NETWORKS, FeatureInfo, Network, Preprocess, Result, Roles, load_weights
from segkd.models.blocks import Asymmetric, DownConcat, TransposedNormAct
from segkd.models.fusion import crop_to

EPS = 1e-3
DILATIONS = (2, 4, 8, 16)


class FactorisedResidual(nn.Module):
    """The non-bottleneck-1D block: two 3x3 convolutions, each as 3x1, ReLU, 1x3; dropout of whole maps; the identity.

    Args:
        dilation: of the second pair.
    """

    def __init__(self, channels: int, dropout: float = 0.0, dilation: int = 1) -> None:
        super().__init__()
        self.first = Asymmetric(channels, bias=True, between="act")
        self.norm1 = nn.BatchNorm2d(channels, eps=EPS)
        self.second = Asymmetric(channels, dilation=dilation, bias=True, between="act")
        self.norm2 = nn.BatchNorm2d(channels, eps=EPS)
        self.dropout = nn.Dropout2d(dropout)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.first(x)))
        out = self.dropout(self.norm2(self.second(out)))
        summed: Tensor = self.act(out + x)
        return summed


def down(cin: int, cout: int) -> nn.Sequential:
    """Halve the size: strided convolution beside max pooling, BatchNorm, ReLU."""
    return nn.Sequential(DownConcat(cin, cout, bias=True), nn.BatchNorm2d(cout, eps=EPS), nn.ReLU(inplace=True))


@NETWORKS.register("erfnet")
class ERFNet(Network):
    """ERFNet: 2.07 M parameters, factorised residual blocks at strides 4 and 8, a decoder of transposed convolutions.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). Where a doubled map is one row or column too
    large, it is cut at the bottom or right. Initialised as torch does by default, like the authors' code.

    The image goes in as it is, in 0..1.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
        dropout: probabilities in the blocks at stride 4 and at stride 8.
    """

    paper = "Romera, Alvarez, Bergasa, Arroyo, IEEE T-ITS 2018"
    roles: Roles = {"backbone": "stage3", "stages": ("down1", "stage2", "stage3")}
    results = (
        Result("cityscapes", "val", 72.1, source="repository"),
        Result("cityscapes", "test", 69.8, source="repository"),
        Result("cityscapes", "test", None, 83.0, "Titan X"),  # the abstract names no size
    )

    def __init__(
        self, num_classes: int, weights: str | Path | None = None, dropout: tuple[float, float] = (0.03, 0.3)
    ) -> None:
        super().__init__(num_classes, Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
        self.down1 = down(3, 16)
        self.down2 = down(16, 64)
        self.stage2 = nn.Sequential(*(FactorisedResidual(64, dropout[0]) for _ in range(5)))
        self.down3 = down(64, 128)
        self.stage3 = nn.Sequential(*(FactorisedResidual(128, dropout[1], d) for d in DILATIONS * 2))
        self.up2 = TransposedNormAct(128, 64, bias=True, eps=EPS)
        self.decode2 = nn.Sequential(FactorisedResidual(64), FactorisedResidual(64))
        self.up1 = TransposedNormAct(64, 16, bias=True, eps=EPS)
        self.decode1 = nn.Sequential(FactorisedResidual(16), FactorisedResidual(16))
        self.classifier = nn.ConvTranspose2d(16, num_classes, 2, 2)
        self.feature_info = (
            FeatureInfo("down1", 16, 2),
            FeatureInfo("stage2", 64, 4),
            FeatureInfo("stage3", 128, 8),
            FeatureInfo("decode2", 64, 4),
            FeatureInfo("decode1", 16, 2),
            FeatureInfo("classifier", num_classes, 1),
        )
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        half = self.down1(x)
        quarter = self.stage2(self.down2(half))
        eighth = self.stage3(self.down3(quarter))
        out = self.decode2(crop_to(self.up2(eighth), quarter))
        out = self.decode1(crop_to(self.up1(out), half))
        logits: Tensor = crop_to(self.classifier(out), x)
        return logits
