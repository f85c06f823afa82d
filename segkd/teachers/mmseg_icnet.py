"""mmsegmentation's ICNet: the cascade of ICNet over a dilated ResNet of full width, where the paper has half.

No network of `segkd.models` computes this: the resizes keep no corners, the pyramid has convolutions, both maps of a
fusion are rectified before their sum, and a 3x3 comes before the classifier.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.base import FeatureInfo, Network, resize_to
from segkd.models.blocks import ConvNormAct
from segkd.models.fusion import PyramidPooling
from segkd.teachers.mmseg_dilated import DilatedResNet

#: of the backbone's four stages against the image
STRIDES = (8, 16, 32, 32)


def halved(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, floor(H / 2), floor(W / 2)), by a factor of exactly 2 at odd sizes too."""
    return F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)


class RectifiedFusion(nn.Module):
    """Cascade feature fusion: the coarse map resized, 3x3 of dilation 2; the fine one projected; ReLU of each, and of
    their sum.
    """

    def __init__(self, coarse: int, fine: int, cout: int) -> None:
        super().__init__()
        self.coarse = ConvNormAct(coarse, cout, 3, dilation=2)
        self.fine = ConvNormAct(fine, cout, 1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, coarse, h, w), (N, fine, H, W) -> (N, cout, H, W)."""
        return F.relu(self.coarse(resize_to(coarse, fine.shape[-2:])) + self.fine(fine))


class WideICNet(Network):
    """ICNet on a `DilatedResNet`: half of the image through two stages, a quarter through the others, all of it thinly.

    (N, 3, H, W) -> logits (N, num_classes, H, W), made at stride 8, for any H, W >= 32.

    Args:
        encoder: "resnet18", "resnet50" or "resnet101".
        num_classes: number of classes.
    """

    def __init__(self, encoder: str, num_classes: int) -> None:
        super().__init__(num_classes)
        self.backbone = DilatedResNet(encoder)
        self.backbone.stem[3] = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        channels = self.backbone.channels
        self.context = nn.Sequential(PyramidPooling(channels[3], 512, width=512, kernel=3), ConvNormAct(512, 256, 1))
        self.middle = ConvNormAct(channels[1], 256, 1)
        self.detail = nn.Sequential(ConvNormAct(3, 32, 3, 2), ConvNormAct(32, 32, 3, 2), ConvNormAct(32, 64, 3, 2))
        self.fusion16 = RectifiedFusion(256, 256, 128)
        self.fusion8 = RectifiedFusion(128, 64, 128)
        self.head = ConvNormAct(128, 128)
        self.classifier = nn.Conv2d(128, num_classes, 1)
        self.feature_info = (
            *(FeatureInfo(f"backbone.layer{i}", c, s) for i, c, s in zip((1, 2, 3, 4), channels, STRIDES, strict=True)),
            FeatureInfo("context", 256, 32),
            FeatureInfo("detail", 64, 8),
            FeatureInfo("fusion16", 128, 16),
            FeatureInfo("fusion8", 128, 8),
            FeatureInfo("head", 128, 8),
            FeatureInfo("classifier", num_classes, 8),
        )

    def forward(self, x: Tensor) -> Tensor:
        trunk = self.backbone
        middle = trunk.layer2(trunk.layer1(trunk.stem(halved(x))))
        context = self.context(trunk.layer4(trunk.layer3(halved(middle))))
        fused = self.fusion8(self.fusion16(context, self.middle(middle)), self.detail(x))
        return resize_to(self.classifier(self.head(fused)), x.shape[-2:])
