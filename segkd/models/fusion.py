"""The vocabulary's other half: what joins maps of several sizes (pyramids, attention, upsampling, skips, fusion)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.base import resize_to
from segkd.models.blocks import ConvNormAct, convolution

UPSAMPLING = ("nearest", "bilinear", "transposed", "pixel_shuffle")


class PyramidPooling(nn.Module):
    """Average-pool to each of ``bins``, project, resize back, concatenate with the input, project (Zhao et al. 2017).

    (N, cin, H, W) -> (N, cout, H, W); each level is projected to ``width`` (default ``cin / len(bins)``) channels.

    Args:
        kernel: of the last projection.
    """

    def __init__(
        self, cin: int, cout: int, bins: Sequence[int] = (1, 2, 3, 6), width: int | None = None, kernel: int = 1
    ) -> None:
        super().__init__()
        width = width or cin // len(bins)
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), ConvNormAct(cin, width, 1)) for size in bins
        )
        self.project = ConvNormAct(cin + width * len(bins), cout, kernel)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        out: Tensor = self.project(torch.cat([x, *(resize_to(level(x), size) for level in self.levels)], dim=1))
        return out


class FastAttention(nn.Module):
    """FANet's attention without softmax: q (k^T v) with unit q and k, linear in H W (Hu et al. 2020).

    (N, C, H, W) -> (N, C, H, W), before any residual sum. q and k have ``width`` channels, of length 1 at each pixel.
    """

    def __init__(self, channels: int, width: int = 32, act: bool | str = False) -> None:
        super().__init__()
        self.query = ConvNormAct(channels, width, 1, act=False)
        self.key = ConvNormAct(channels, width, 1, act=False)
        self.value = ConvNormAct(channels, channels, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        query = F.normalize(self.query(x), dim=1).flatten(2)
        key = F.normalize(self.key(x), dim=1).flatten(2)
        value = self.value(x).flatten(2)
        out: Tensor = (value @ key.transpose(1, 2)) @ query
        return out.reshape_as(x)


def crop_to(x: Tensor, like: Tensor) -> Tensor:
    """Cut (N, C, H, W) at the right and bottom to the size of ``like``: doubling an odd size's half is one too many."""
    return x[..., : like.shape[-2], : like.shape[-1]]


def resize_nearest(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (N, C, h, w) to ``size`` = (H, W), each pixel from its nearest neighbour."""
    return x if tuple(x.shape[-2:]) == tuple(size) else F.interpolate(x, size=tuple(size), mode="nearest")


class Upsample(nn.Module):
    """Double the size of (N, cin, h, w), then cut to that of ``like``: (N, cout, H, W) with h = ceil(H / 2).

    Args:
        mode: "nearest" and "bilinear" resize and then apply a 1x1 (none where cin = cout); "transposed" is a 3x3
            transposed convolution of stride 2; "pixel_shuffle" a 1x1 to 4 cout whose channels become 2x2 pixels.
    """

    def __init__(self, cin: int, cout: int, mode: str = "bilinear", bias: bool = False) -> None:
        super().__init__()
        if mode not in UPSAMPLING:
            raise UserError(f"Upsample mode must be one of {', '.join(UPSAMPLING)}, got {mode!r}")
        self.mode = mode
        self.conv: nn.Module
        if mode == "transposed":
            self.conv = nn.ConvTranspose2d(cin, cout, 3, 2, 1, 1, bias=bias)
        elif mode == "pixel_shuffle":
            self.conv = nn.Sequential(convolution(cin, 4 * cout, 1, bias=bias), nn.PixelShuffle(2))
        else:
            self.conv = nn.Identity() if cin == cout else convolution(cin, cout, 1, bias=bias)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        size = like.shape[-2:]
        if self.mode in ("transposed", "pixel_shuffle"):
            return crop_to(self.conv(x), like)
        out: Tensor = self.conv(x)  # before the resize: a quarter of the work, and the two commute
        return resize_nearest(out, size) if self.mode == "nearest" else resize_to(out, size)


class AddSkip(nn.Module):
    """Skip connection by addition: the coarse map resized to the fine one, whose channels a 1x1 adapts, summed."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.lateral = nn.Identity() if fine == coarse else convolution(fine, coarse, 1)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(N, fine, H, W), (N, coarse, h, w) -> (N, coarse, H, W)."""
        side: Tensor = self.lateral(fine)
        return side + resize_to(coarse, side.shape[-2:])


class ConcatSkip(nn.Module):
    """Skip connection by concatenation: [fine, coarse resized], projected by a 3x3 with BatchNorm and ReLU."""

    def __init__(self, fine: int, coarse: int, cout: int, kernel: int = 3) -> None:
        super().__init__()
        self.project = ConvNormAct(fine + coarse, cout, kernel)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(N, fine, H, W), (N, coarse, h, w) -> (N, cout, H, W)."""
        out: Tensor = self.project(torch.cat([fine, resize_to(coarse, fine.shape[-2:])], dim=1))
        return out


class FeatureFusion(nn.Module):
    """Fast-SCNN's and ContextNet's fusion: the coarse branch resized, a depthwise 3x3, both projected and added.

    Args:
        dilation: of the depthwise convolution. The papers set it to the up-factor: neighbouring weights then meet
            neighbouring coarse cells.
    """

    def __init__(self, detail: int, coarse: int, cout: int, dilation: int = 4) -> None:
        super().__init__()
        self.spread = ConvNormAct(coarse, cout, 3, dilation=dilation, groups=cout)
        self.coarse = nn.Sequential(nn.Conv2d(cout, cout, 1), nn.BatchNorm2d(cout))
        self.detail = nn.Sequential(nn.Conv2d(detail, cout, 1), nn.BatchNorm2d(cout))
        self.act = nn.ReLU()

    def forward(self, detail: Tensor, coarse: Tensor) -> Tensor:
        """(N, detail, H, W), (N, coarse, h, w) -> (N, cout, H, W)."""
        coarse = self.spread(resize_to(coarse, detail.shape[-2:]))
        out: Tensor = self.act(self.coarse(coarse) + self.detail(detail))
        return out
