"""U-Net (Ronneberger, Fischer, Brox, MICCAI 2015, arXiv:1505.04597), with padded convolutions."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError, nearest
from segkd.models.base import NETWORKS, FeatureInfo, Network, Roles, load_weights
from segkd.models.blocks import ConvNormAct, convolution
from segkd.models.fusion import crop_to


class Form(NamedTuple):
    """What a variant consists of.

    Attributes:
        down: channels of the five levels on the way down.
        up: channels of the four on the way up.
        upsampling: the ways to enlarge a map, the published one first.
        dropout: probability that a value of the two coarsest levels on the way down is dropped.
    """

    down: tuple[int, ...]
    up: tuple[int, ...]
    upsampling: tuple[str, ...]
    dropout: float


FORMS = {
    "paper": Form((64, 128, 256, 512, 1024), (512, 256, 128, 64), ("transposed",), 0.5),
    "port": Form((64, 128, 256, 512, 512), (256, 128, 64, 64), ("bilinear", "transposed"), 0.0),
}


def double(cin: int, cout: int) -> nn.Sequential:
    """Two 3x3 convolutions with bias, each with ReLU."""
    pairs = ((convolution(width, cout, bias=True), nn.ReLU(inplace=True)) for width in (cin, cout))
    return nn.Sequential(*(layer for pair in pairs for layer in pair))


def double_norm(cin: int, cout: int) -> nn.Sequential:
    """Two 3x3 convolutions as the port has them, each with BatchNorm and ReLU."""
    return nn.Sequential(ConvNormAct(cin, cout, bias=True), ConvNormAct(cout, cout, bias=True))


class Up(nn.Module):
    """The coarse map doubled by a transposed 2x2 with ReLU, [coarse, skip] concatenated, two convolutions."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.ConvTranspose2d(cin, cout, 2, 2), nn.ReLU(inplace=True))
        self.convolve = double(2 * cout, cout)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """(N, cin, h, w), (N, cout, H, W) -> (N, cout, H, W)."""
        out: Tensor = self.convolve(torch.cat([crop_to(self.up(coarse), skip), skip], dim=1))
        return out


class PortUp(nn.Module):
    """The coarse map enlarged to the size of the skip, [skip, coarse] concatenated, two convolutions.

    Args:
        transposed: enlarge by a transposed 2x2 convolution instead of bilinear interpolation with aligned corners.
    """

    def __init__(self, channels: int, cout: int, transposed: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels, 2, 2) if transposed else None
        self.convolve = double_norm(2 * channels, cout)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """(N, C, h, w), (N, C, H, W) -> (N, cout, H, W)."""
        if self.up is None:
            coarse = F.interpolate(coarse, size=skip.shape[-2:], mode="bilinear", align_corners=True)
        else:
            coarse = crop_to(self.up(coarse), skip)
        out: Tensor = self.convolve(torch.cat([skip, coarse], dim=1))
        return out


def draw_weights(network: nn.Module) -> None:
    """Normal weights of variance 2 / N, biases zero; N as Caffe counts it, all weights of the first of a tensor."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@NETWORKS.register("unet")
class UNet(Network):
    """U-Net: five levels of two 3x3 convolutions without BatchNorm, joined by concatenation; 31.03 M parameters.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W), made at stride 1: 80 times as costly as
    ESPNet. As in the paper, but that convolutions keep the size (the paper's lose a border of 92 pixels); at odd sizes
    the pooling rounds up, and what an up-convolution makes too much is cut.

    Where the paper leaves a choice, it is that of the network which its authors released (phseg_v5, 2015): ReLU after
    each up-convolution; [coarse, skip] in this order; dropout of 0.5 after levels 4, for its skip too, and 5; weights
    from a normal distribution of variance 2 / N, where N is 9 or 1 times the inputs, for an up-convolution 4 times the
    outputs; no bias at first. The last up-convolution of that network keeps 128 channels, the paper's halves them.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
        upsampling: of the port: "bilinear", or "transposed" (a learned 2x2, 1.4 M parameters more); the paper has
            "transposed" alone. Default: as published.
        variant: "paper", or "port", a widespread form of 13.4 M parameters: BatchNorm after each 3x3 convolution, 512
            instead of 1024 channels at the bottom, upsampling that keeps the channels and has no ReLU, its result
            concatenated after the skip, no dropout, torch's default initialisation.
    """

    paper = "Ronneberger, Fischer, Brox, MICCAI 2015, arXiv:1505.04597"
    roles: Roles = {"backbone": "down5", "stages": ("down1", "down2", "down3", "down4", "down5")}

    def __init__(
        self,
        num_classes: int,
        weights: str | Path | None = None,
        upsampling: str | None = None,
        variant: str = "paper",
    ) -> None:
        if variant not in FORMS:
            raise UserError(f"U-Net has no variant {variant!r}; {nearest(variant, FORMS)}")
        form = FORMS[variant]
        upsampling = upsampling or form.upsampling[0]
        if upsampling not in form.upsampling:
            raise UserError(
                f"U-Net of variant {variant!r} has no upsampling {upsampling!r}; {nearest(upsampling, form.upsampling)}"
            )
        super().__init__(num_classes)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)  # odd sizes round up, as everywhere
        down = double_norm if variant == "port" else double
        self.down1, self.down2, self.down3, self.down4, self.down5 = (
            down(cin, cout) for cin, cout in zip((3, *form.down[:-1]), form.down, strict=True)
        )
        self.dropout = nn.Dropout(form.dropout)
        self.up4, self.up3, self.up2, self.up1 = way_up(form, variant == "port", upsampling == "transposed")
        self.classifier = nn.Conv2d(64, num_classes, 1)
        self.feature_info = describe(form, num_classes)
        if variant == "paper":
            draw_weights(self)
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(self.pool(first))
        third = self.down3(self.pool(second))
        fourth = self.dropout(self.down4(self.pool(third)))
        fifth = self.dropout(self.down5(self.pool(fourth)))
        out = self.up3(self.up4(fifth, fourth), third)
        logits: Tensor = self.classifier(self.up1(self.up2(out, second), first))
        return logits


def way_up(form: Form, port: bool, learned: bool) -> list[nn.Module]:
    """The four steps from the coarsest map to the finest."""
    widths = zip((form.down[-1], *form.up), form.up, strict=False)
    return [PortUp(cin, cout, learned) if port else Up(cin, cout) for cin, cout in widths]


def describe(form: Form, num_classes: int) -> tuple[FeatureInfo, ...]:
    """Taps of a U-Net; those of the way down come before the dropout."""
    return (
        *(FeatureInfo(f"down{k}", width, 1 << (k - 1)) for k, width in enumerate(form.down, 1)),
        *(FeatureInfo(f"up{k}", width, 1 << (k - 1)) for k, width in zip((4, 3, 2, 1), form.up, strict=True)),
        FeatureInfo("classifier", num_classes, 1),
    )
