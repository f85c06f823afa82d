"""Networks as mmsegmentation builds them: those of `segkd.models` with the layers in which the two differ exchanged.

Every function takes the number of classes. What differs was read off mmsegmentation 1.4.2 (its `configs/` and
`mmseg/models/`) and is checked against its logits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.base import FeatureInfo, Network, resize_to
from segkd.models.bisenetv1 import BiSeNetV1
from segkd.models.bisenetv2 import BiSeNetV2, GuidedAggregation
from segkd.models.blocks import ConvNormAct, DownConcat, convolution
from segkd.models.cgnet import CGNet
from segkd.models.erfnet import ERFNet
from segkd.models.fast_scnn import FastSCNN
from segkd.models.fusion import FeatureFusion, PyramidPooling
from segkd.models.smp import SmpModel
from segkd.models.stdc import STDC
from segkd.models.wrapping import pad_to_multiple


def fast_scnn(num_classes: int) -> Network:
    """Fast-SCNN whose pyramid ends in a 3x3 and whose fusion spreads by an undilated depthwise convolution."""
    network = FastSCNN(num_classes)
    network.global_features.pooling = PyramidPooling(128, 128, kernel=3)
    network.fusion = FeatureFusion(64, 128, 128, dilation=1)
    return network


class SegFormer(SmpModel):
    """smp's SegFormer without padding, with BatchNorm and ReLU behind each of the decoder's projections.

    (N, 3, H, W) -> logits (N, num_classes, H, W) for any H, W >= 32: made at the size of the finest map, ceil(H / 4) x
    ceil(W / 4), and resized once, half-pixel centres. Every LayerNorm has eps 1e-6, the decoder 256 channels.

    Args:
        size: 0 to 5, of MiT-B0 to -B5.
        num_classes: number of classes.
    """

    def __init__(self, size: int, num_classes: int) -> None:
        super().__init__("Segformer", f"mit_b{size}", num_classes=num_classes, decoder_segmentation_channels=256)
        for module in self.encoder.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6
        decoder: Any = self.decoder
        decoder.mlp_stage = nn.ModuleList(ConvNormAct(stage.linear.in_features, 256, 1) for stage in decoder.mlp_stage)
        self.segmentation_head = nn.Sequential(self.segmentation_head[0])  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        maps = self.encoder(x)
        if len(self.maps):
            maps = [tap(m) for tap, m in zip(self.maps, maps, strict=True)]
        maps[0] = pad_to_multiple(x, 4)  # the decoder reads its size alone, and divides that by 4
        return resize_to(self.segmentation_head(self.decoder(maps)), x.shape[-2:])


def upernet_convnext(size: str, num_classes: int) -> Network:
    """smp's UPerNet on timm's ConvNeXt of that size, without padding, its logits resized once."""
    network = SmpModel("UPerNet", f"tu-convnext_{size}", num_classes=num_classes, decoder_channels=512)
    network.multiple = 1
    network.segmentation_head = nn.Sequential(network.segmentation_head[0])  # type: ignore[index]
    return network


def bisenetv1(num_classes: int) -> Network:
    """BiSeNet V1 of the variant "coincheung", with a ReLU before the sigmoid of its fusion's gate."""
    network = BiSeNetV1(num_classes, variant="coincheung")
    network.fusion.gate[1] = ConvNormAct(256, 256, 1)
    return network


class BilinearAggregation(GuidedAggregation):
    """BiSeNet V2's aggregation with bilinear resizes, that of the gate before its sigmoid; its bare 1x1 have biases."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.detail[1] = convolution(channels, channels, 1, bias=True)
        self.semantics[1] = convolution(channels, channels, 1, bias=True)

    def forward(self, detail: Tensor, semantics: Tensor) -> Tensor:
        size = detail.shape[-2:]
        fine = self.detail(detail) * resize_to(self.semantics_up(semantics), size).sigmoid()
        coarse = self.detail_down(detail) * self.semantics(semantics).sigmoid()
        out: Tensor = self.fuse(fine + resize_to(coarse, size))
        return out


def bisenetv2(num_classes: int) -> Network:
    """BiSeNet V2 with `BilinearAggregation`."""
    network = BiSeNetV2(num_classes)
    network.aggregation = BilinearAggregation(128)
    return network


def stdc(kind: type[STDC], num_classes: int) -> Network:
    """STDC-Seg whose classifier has a bias."""
    network = kind(num_classes)
    network.classifier = convolution(256, num_classes, 1, bias=True)
    return network


def cgnet(num_classes: int) -> Network:
    """CGNet whose classifier has a bias."""
    network = CGNet(num_classes)
    network.classifier = convolution(256, num_classes, 1, bias=True)
    return network


class ResizedDownConcat(DownConcat):
    """`DownConcat` whose pooling rounds down and is then resized, which differs for odd sizes."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return torch.cat([out, resize_to(F.max_pool2d(x, 2, 2), out.shape[-2:])], dim=1)


class ERFNetWithHead(ERFNet):
    """ERFNet with a 3x3 and a 1x1 at stride 2 where the authors have a transposed convolution.

    (N, 3, H, W) -> logits (N, num_classes, H, W). Doubled maps are not cut: the logits of ceil(H / 8) * 4 rows are
    resized to H.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        for down, cin, cout in ((self.down1, 3, 16), (self.down2, 16, 64), (self.down3, 64, 128)):
            down[0] = ResizedDownConcat(cin, cout, bias=True)
        self.head = ConvNormAct(16, 128)
        self.classifier = nn.Conv2d(128, num_classes, 1)  # type: ignore[assignment]
        kept = [info for info in self.feature_info if info.path != "classifier"]
        self.feature_info = (*kept, FeatureInfo("head", 128, 2), FeatureInfo("classifier", num_classes, 2))

    def forward(self, x: Tensor) -> Tensor:
        deep = self.stage3(self.down3(self.stage2(self.down2(self.down1(x)))))
        decoded = self.decode1(self.up1(self.decode2(self.up2(deep))))
        return resize_to(self.classifier(self.head(decoded)), x.shape[-2:])
