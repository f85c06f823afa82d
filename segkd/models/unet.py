"""U-Net (Ronneberger, Fischer, Brox, MICCAI 2015, arXiv:1505.04597), with padded convolutions and BatchNorm."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError, nearest
from segkd.models.base import NETWORKS, FeatureInfo, Network, load_weights
from segkd.models.blocks import ConvNormAct
from segkd.models.fusion import crop_to

WIDTHS = (64, 128, 256, 512, 512)
UPSAMPLING = ("bilinear", "transposed")


def double(cin: int, cout: int) -> nn.Sequential:
    """Two 3x3 convolutions (with bias), each with BatchNorm and ReLU."""
    return nn.Sequential(ConvNormAct(cin, cout, bias=True), ConvNormAct(cout, cout, bias=True))


class Up(nn.Module):
    """The coarse map enlarged to the size of the skip, [skip, coarse] concatenated, two convolutions.

    Args:
        transposed: enlarge by a transposed 2x2 convolution instead of bilinear interpolation with aligned corners.
    """

    def __init__(self, channels: int, cout: int, transposed: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels, 2, 2) if transposed else None
        self.convolve = double(2 * channels, cout)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """(N, C, h, w), (N, C, H, W) -> (N, cout, H, W)."""
        if self.up is None:
            coarse = F.interpolate(coarse, size=skip.shape[-2:], mode="bilinear", align_corners=True)
        else:
            coarse = crop_to(self.up(coarse), skip)
        out: Tensor = self.convolve(torch.cat([skip, coarse], dim=1))
        return out


@NETWORKS.register("unet")
class UNet(Network):
    """U-Net: five levels of two convolutions each, joined by concatenation; 13.4 M parameters, logits at stride 1.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). The widespread form of the paper's structure:
    convolutions that keep the size (the paper's lose a border), BatchNorm, 512 instead of 1024 channels at the bottom.
    Initialised as torch does by default. 60 times as costly as ESPNet.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
        upsampling: "bilinear", or "transposed" (a learned 2x2, as in the paper; 1.4 M parameters more).
    """

    paper = "Ronneberger, Fischer, Brox, MICCAI 2015, arXiv:1505.04597"

    def __init__(self, num_classes: int, weights: str | Path | None = None, upsampling: str = "bilinear") -> None:
        if upsampling not in UPSAMPLING:
            raise UserError(f"U-Net has no upsampling {upsampling!r}; {nearest(upsampling, UPSAMPLING)}")
        super().__init__(num_classes)
        learned = upsampling == "transposed"
        self.pool = nn.MaxPool2d(2, ceil_mode=True)  # odd sizes round up, as everywhere
        self.down1, self.down2 = double(3, 64), double(64, 128)
        self.down3, self.down4 = double(128, 256), double(256, 512)
        self.down5 = double(512, 512)
        self.up4, self.up3 = Up(512, 256, learned), Up(256, 128, learned)
        self.up2, self.up1 = Up(128, 64, learned), Up(64, 64, learned)
        self.classifier = nn.Conv2d(64, num_classes, 1)
        self.feature_info = (
            *(FeatureInfo(f"down{k}", width, 1 << (k - 1)) for k, width in enumerate(WIDTHS, 1)),
            *(FeatureInfo(f"up{k}", max(16 << k, 64), 1 << (k - 1)) for k in (4, 3, 2, 1)),
            FeatureInfo("classifier", num_classes, 1),
        )
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(self.pool(first))
        third = self.down3(self.pool(second))
        fourth = self.down4(self.pool(third))
        out = self.up4(self.down5(self.pool(fourth)), fourth)
        out = self.up2(self.up3(out, third), second)
        logits: Tensor = self.classifier(self.up1(out, first))
        return logits
