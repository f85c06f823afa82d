"""LinkNet: Exploiting Encoder Representations (Chaurasia and Culurciello, VCIP 2017, arXiv:1707.03718)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError, nearest
from segkd.models.base import NETWORKS, FeatureInfo, Network, Preprocess, Result, Roles, load_weights
from segkd.models.blocks import ConvNormAct, TransposedNormAct
from segkd.models.cgnet import CITYSCAPES_MEAN
from segkd.models.fusion import crop_to
from segkd.models.resnet import DEPTHS, ResNetTrunk, imagenet_weights, load_trunk

VARIANTS = ("paper", "port")


class LinkDecoder(nn.Module):
    """1x1 to a quarter of the channels, transposed 3x3, 1x1; plus the map that went into the encoder's stage.

    Args:
        stride: of the transposed convolution.
        bias: of the convolutions.
        act: a ReLU after the sum.
    """

    def __init__(self, cin: int, cout: int, stride: int, bias: bool, act: bool, eps: float) -> None:
        super().__init__()
        width = cin // 4
        self.reduce = ConvNormAct(cin, width, 1, bias=bias, eps=eps)
        self.up = TransposedNormAct(width, width, stride, bias, eps)
        self.expand = ConvNormAct(width, cout, 1, bias=bias, eps=eps)
        self.act = act

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, cin, h, w), (N, cout, H, W) -> (N, cout, H, W)."""
        out: Tensor = self.expand(crop_to(self.up(self.reduce(coarse)), fine)) + fine
        return F.relu(out) if self.act else out


def less_mean(mean: Sequence[float]) -> Preprocess:
    """(RGB - mean) / 255."""
    return Preprocess([value / 255 for value in mean], (1.0, 1.0, 1.0))


def he_by_outputs(part: nn.Module) -> None:
    """Weights of all convolutions from N(0, 2 / (kernel height x width x outputs)), as in the authors' code."""
    for m in part.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(m.weight, 0.0, (2 / (m.kernel_size[0] * m.kernel_size[1] * m.out_channels)) ** 0.5)


@NETWORKS.register("linknet")
class LinkNet(Network):
    """LinkNet: ResNet-18, and four decoder blocks that each add what went into the encoder's stage; 11.5 M parameters.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). Where a doubled map is one row or column too
    large, it is cut at the bottom or right. Convolutions start from He's normal distribution by
    their outputs. Images are RGB less ``mean``, over 255; with ``pretrained`` normalised as its weights need.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict, loaded last.
        pretrained: True downloads torchvision's ImageNet weights of the encoder (published: with such an encoder), a
            file holds them; nothing is downloaded otherwise.
        mean: of the training images' red, green and blue in 0..255; takes no part with ``pretrained``.
        variant: "paper": a ReLU after the sums, biases in the decoder's convolutions and its BatchNorms with eps 1e-3,
            but for the head's first, as the authors have it. "port": the form of Efficient-Segmentation-Networks,
            without these.
    """

    paper = "Chaurasia, Culurciello, VCIP 2017, arXiv:1707.03718"
    roles: Roles = {
        "backbone": "encoder.layer4",
        "stages": ("encoder.layer1", "encoder.layer2", "encoder.layer3", "encoder.layer4"),
    }
    results = (
        Result("cityscapes", "val", 76.44, source="repository"),
        Result("camvid", "test", 69.10, source="repository"),
    )

    def __init__(
        self,
        num_classes: int,
        weights: str | Path | None = None,
        pretrained: bool | str | Path = False,
        mean: Sequence[float] = CITYSCAPES_MEAN,
        variant: str = "paper",
    ) -> None:
        if variant not in VARIANTS:
            raise UserError(f"LinkNet has no variant {variant!r}; {nearest(variant, VARIANTS)}")
        super().__init__(num_classes, Preprocess() if pretrained else less_mean(mean))
        own = variant == "paper"
        eps = 1e-3 if own else 1e-5
        self.encoder = ResNetTrunk(DEPTHS["resnet18"])
        self.decoder4 = LinkDecoder(512, 256, 2, own, own, eps)
        self.decoder3 = LinkDecoder(256, 128, 2, own, own, eps)
        self.decoder2 = LinkDecoder(128, 64, 2, own, own, eps)
        self.decoder1 = LinkDecoder(64, 64, 1, own, own, eps)
        self.head = nn.Sequential(TransposedNormAct(64, 32, bias=True), ConvNormAct(32, 32, 3, bias=True, eps=eps))
        self.classifier = nn.ConvTranspose2d(32, num_classes, 2, 2)
        he_by_outputs(self)
        self.feature_info = (
            *(FeatureInfo(f"encoder.layer{k}", 32 << k, 2 << k) for k in (1, 2, 3, 4)),
            *(FeatureInfo(f"decoder{k}", max(16 << k, 64), 1 << k) for k in (4, 3, 2)),
            FeatureInfo("decoder1", 64, 4),
            FeatureInfo("head", 32, 2),
            FeatureInfo("classifier", num_classes, 1),
        )
        if pretrained:
            load_trunk(self.encoder, imagenet_weights("resnet18", pretrained))
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.encoder.stem(x)
        first = self.encoder.layer1(pooled)
        second = self.encoder.layer2(first)
        third = self.encoder.layer3(second)
        out = self.decoder4(self.encoder.layer4(third), third)
        out = self.decoder2(self.decoder3(out, second), first)
        logits: Tensor = crop_to(self.classifier(self.head(self.decoder1(out, pooled))), x)
        return logits
