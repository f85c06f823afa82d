"""ENet (Paszke, Chaurasia, Kim, Culurciello, 2016, arXiv:1606.02147)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError, nearest
from segkd.models.base import NETWORKS, FeatureInfo, Network, Preprocess, Result, Roles, load_weights, resize_to
from segkd.models.blocks import DownConcat, convolution
from segkd.models.fusion import crop_to

RATIO = 4
UPSAMPLING = ("unpool", "bilinear")
VARIANTS = ("authors", "port")


class Style(NamedTuple):
    """The way in which the parts of the network are built.

    Attributes:
        port: in the form of the PyTorch-ENet port.
        act: "relu" or "prelu".
        dropout: probability that a whole map of the extension branch is dropped.
    """

    port: bool
    act: str
    dropout: float

    def width(self, cin: int, cout: int) -> int:
        """Channels inside a bottleneck: a quarter of what comes out, in the port of what goes in."""
        return (cin if self.port else cout) // RATIO

    def norm(self, channels: int) -> nn.BatchNorm2d:
        """The BatchNorm; the port has torch's eps."""
        return nn.BatchNorm2d(channels, eps=1e-5 if self.port else 1e-3)

    def norm_act(self, channels: int) -> list[nn.Module]:
        """The BatchNorm and the activation."""
        return [self.norm(channels), self.activation(channels)]

    def middle(self, width: int, dilation: int = 1) -> list[nn.Module]:
        """The 3x3 of a bottleneck."""
        return [convolution(width, width, dilation=dilation, bias=not self.port), *self.norm_act(width)]

    def asymmetric(self, width: int) -> list[nn.Module]:
        """A 1x5 and a 5x1 in place of the 3x3; the port has 5x1 first, with BatchNorm and activation between."""
        if self.port:
            pair = [(convolution(width, width, kernel), *self.norm_act(width)) for kernel in ((5, 1), (1, 5))]
            return [layer for layers in pair for layer in layers]
        first, second = convolution(width, width, (1, 5)), convolution(width, width, (5, 1), bias=True)
        return [first, second, *self.norm_act(width)]

    def activation(self, channels: int) -> nn.Module:
        """The activation; a PReLU has a slope per channel, in the port one for all."""
        return nn.ReLU(inplace=True) if self.act == "relu" else nn.PReLU(1 if self.port else channels)

    def expansion(self, cin: int, cout: int) -> list[nn.Module]:
        """The 1x1 that ends an extension branch: the port puts an activation before the sum, too."""
        return [convolution(cin, cout, 1), *(self.norm_act(cout) if self.port else [self.norm(cout)])]


class Bottleneck(nn.Module):
    """Identity, plus 1x1 to a quarter of the channels, a convolution, 1x1 back and dropout; activation after the sum.

    Args:
        dilation: of the 3x3 convolution.
        asymmetric: 1x5 and 5x1 instead of the 3x3.
    """

    def __init__(self, channels: int, style: Style, dilation: int = 1, asymmetric: bool = False) -> None:
        super().__init__()
        width = style.width(channels, channels)
        middle = style.asymmetric(width) if asymmetric else style.middle(width, dilation)
        self.extension = nn.Sequential(
            convolution(channels, width, 1),
            *style.norm_act(width),
            *middle,
            *style.expansion(width, channels),
            nn.Dropout2d(style.dropout),
        )
        self.act = style.activation(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x + self.extension(x))
        return out


class Down(nn.Module):
    """Halve the size: 2x2 max pooling padded with zero channels, plus 2x2 of stride 2, 3x3, 1x1 and dropout."""

    def __init__(self, cin: int, cout: int, style: Style) -> None:
        super().__init__()
        width = style.width(cin, cout)
        self.more = cout - cin
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True, return_indices=True)
        self.extension = nn.Sequential(
            nn.Conv2d(cin, width, 2, 2, bias=False),
            *style.norm_act(width),
            *style.middle(width),
            *style.expansion(width, cout),
            nn.Dropout2d(style.dropout),
        )
        self.act = style.activation(cout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, cin, H, W) -> (N, cout, H/2, W/2) rounded up, and where each maximum was, (N, cin, H/2, W/2)."""
        height, width = x.shape[-2:]
        pooled, places = self.pool(x)
        # An odd size is padded by a zero row or column, so that the convolution rounds up like the pooling.
        extension = self.extension(F.pad(x, (0, width % 2, 0, height % 2)))
        return self.act(F.pad(pooled, (0, 0, 0, 0, 0, self.more)) + extension), places


class Up(nn.Module):
    """Double the size: a 1x1 put back to where the maxima were, plus 1x1, transposed convolution, 1x1 and dropout."""

    def __init__(self, cin: int, cout: int, style: Style, unpool: bool) -> None:
        super().__init__()
        width = style.width(cin, cout)
        self.unpool = unpool
        self.main = nn.Sequential(convolution(cin, cout, 1), style.norm(cout))
        self.reduce = nn.Sequential(convolution(cin, width, 1), *style.norm_act(width))
        kernel = (2, 2, 0, 0) if style.port else (3, 2, 1, 1)
        self.enlarge = nn.Sequential(
            nn.ConvTranspose2d(width, width, *kernel, bias=not style.port),
            *style.norm_act(width),
        )
        self.expand = nn.Sequential(convolution(width, cout, 1), style.norm(cout), nn.Dropout2d(style.dropout))
        self.act = style.activation(cout)

    def forward(self, x: Tensor, places: Tensor, like: Tensor) -> Tensor:
        """(N, cin, h, w), indices (N, cout, h, w), (N, cout, H, W) -> (N, cout, H, W)."""
        main = self.main(x)
        main = unpooled(main, places, like) if self.unpool else resize_to(main, like.shape[-2:])
        extension = self.expand(crop_to(self.enlarge(self.reduce(x)), like))
        out: Tensor = self.act(main + extension)
        return out


def unpooled(x: Tensor, places: Tensor, like: Tensor) -> Tensor:
    """Max unpooling: each of (N, C, h, w) to its place in a plane of zeros of the size of ``like``."""
    n, c = x.shape[:2]
    plane = x.new_zeros(n, c, like.shape[-2] * like.shape[-1])
    return plane.scatter(2, places.flatten(2), x.flatten(2)).view(n, c, *like.shape[-2:])


def stage(style: Style) -> list[Bottleneck]:
    """The eight bottlenecks at stride 8; they come twice."""
    return [
        Bottleneck(128, style),
        Bottleneck(128, style, dilation=2),
        Bottleneck(128, style, asymmetric=True),
        Bottleneck(128, style, dilation=4),
        Bottleneck(128, style),
        Bottleneck(128, style, dilation=8),
        Bottleneck(128, style, asymmetric=True),
        Bottleneck(128, style, dilation=16),
    ]


@NETWORKS.register("enet")
class ENet(Network):
    """ENet: 0.36 M parameters, bottlenecks at strides 4 and 8 (dilated, asymmetric), a short decoder.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). PReLU in the encoder, ReLU in the decoder.
    Images are RGB in 0..1, no mean taken off.
    Initialised as torch does by default; but the classifier as the authors' Torch 7 does, by its inputs. (That draws
    the scales of BatchNorm between 0 and 1, too; here they start from 1.)

    Of two nearly equal values, rounding decides which one's place is kept for the unpooling. Such a flip changed up to
    3 % of the pixels of 192x128, about 0.1 % of those of 512x1024, so an export is compared in 95 % of the pixels.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
        upsampling: "unpool": the decoder puts values back to where the encoder's max pooling found them, as published;
            exported to ONNX it needs a runtime with MaxPool's indices and ScatterElements. "bilinear": it interpolates
            instead, which every runtime has. Weights of one can be loaded into the other, but not used without
            training.
        variant: "authors": their Lua code. "port": the form of PyTorch-ENet: one slope per PReLU, an activation before
            the sum in the bottlenecks too, BatchNorm and PReLU between 5x1 and 1x5, a quarter of what goes into a
            bottleneck that changes the channels as its width, transposed 2x2 convolutions in the upsampling bottlenecks
            and a 3x3 as classifier, a first pooling of 3x3, no bias, dropout in the decoder, BatchNorm's eps 1e-5.
    """

    paper = "Paszke, Chaurasia, Kim, Culurciello, 2016, arXiv:1606.02147"
    roles: Roles = {"backbone": "stage3", "stages": ("initial", "stage1", "stage3")}
    results = (
        Result("cityscapes", "test", 58.3, 76.9, "Titan X", (512, 1024), source="Papers with Code, STDC's repository"),
        Result("camvid", "test", 51.3, source="ESPNet's repository"),
    )

    def __init__(
        self,
        num_classes: int,
        weights: str | Path | None = None,
        upsampling: str = "unpool",
        variant: str = "authors",
    ) -> None:
        for what, value, known in (("upsampling", upsampling, UPSAMPLING), ("variant", variant, VARIANTS)):
            if value not in known:
                raise UserError(f"ENet has no {what} {value!r}; {nearest(value, known)}")
        super().__init__(num_classes, Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
        port, unpool = variant == "port", upsampling == "unpool"
        fine, deep = Style(port, "prelu", 0.01), Style(port, "prelu", 0.1)
        decoder = Style(port, "relu", 0.1 if port else 0.0)
        self.initial = nn.Sequential(DownConcat(3, 16, 3 if port else 2, bias=not port), *fine.norm_act(16))
        self.down1 = Down(16, 64, fine)
        self.stage1 = nn.Sequential(*(Bottleneck(64, fine) for _ in range(4)))
        self.down2 = Down(64, 128, deep)
        self.stage2 = nn.Sequential(*stage(deep))
        self.stage3 = nn.Sequential(*stage(deep))
        self.up4 = Up(128, 64, decoder, unpool)
        self.stage4 = nn.Sequential(Bottleneck(64, decoder), Bottleneck(64, decoder))
        self.up5 = Up(64, 16, decoder, unpool)
        self.stage5 = nn.Sequential(Bottleneck(16, decoder))
        if port:
            self.classifier = nn.ConvTranspose2d(16, num_classes, 3, 2, 1, 1, bias=False)
        else:
            self.classifier = nn.ConvTranspose2d(16, num_classes, 2, 2)
            draw_by_inputs(self.classifier)
        self.feature_info = describe(num_classes)
        self.unstable = 0.05 if unpool else 0.0
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        half = self.initial(x)
        quarter, places1 = self.down1(half)
        quarter = self.stage1(quarter)
        eighth, places2 = self.down2(quarter)
        out = self.stage3(self.stage2(eighth))
        out = self.stage4(self.up4(out, places2, quarter))
        out = self.stage5(self.up5(out, places1, half))
        logits: Tensor = crop_to(self.classifier(out), x)
        return logits


def draw_by_inputs(layer: nn.ConvTranspose2d) -> None:
    """Weights and bias uniform up to 1 / sqrt(kernel height x width x inputs); torch takes the outputs instead."""
    bound = (layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels) ** -0.5
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound)


def describe(num_classes: int) -> tuple[FeatureInfo, ...]:
    """Taps of an ENet."""
    return (
        FeatureInfo("initial", 16, 2),
        FeatureInfo("stage1", 64, 4),
        FeatureInfo("stage2", 128, 8),
        FeatureInfo("stage3", 128, 8),
        FeatureInfo("stage4", 64, 4),
        FeatureInfo("stage5", 16, 2),
        FeatureInfo("classifier", num_classes, 1),
    )
