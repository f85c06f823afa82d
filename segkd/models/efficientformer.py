"""timm's EfficientFormers at any image size: their attention biases, bound to 224 there, are resized in every forward.

EfficientFormer: Li et al., NeurIPS 2022, arXiv:2206.01191. EfficientFormerV2: Li et al., ICCV 2023, arXiv:2212.08059.

The parameters stay those of the 224 build, under timm's names, so timm's weights load and train; nothing but the size
of the image decides which biases a forward sees, so one instance takes one size after another.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.base import resize_to
from segkd.models.wrapping import ChannelsFirst, ChannelsLast

Size = tuple[int, int]


def spread_biases(table: Tensor, grid: Size, size: Size, step: int = 1) -> Tensor:
    """Biases by distance (heads, h0 * w0) -> biases by pair (heads, queries, h * w) on a map of ``size`` = (h, w).

    Entry (i, j) of the table, seen as (h0, w0) = ``grid``, is for a key i rows and j columns away from the query. A map
    of another size has a table resized to it, bilinearly and with the corners aligned: distance 0 must stay distance 0,
    also on a map of one row.

    Args:
        step: the queries are every ``step``-th cell of every ``step``-th row.
    """
    height, width = size
    if size != grid:
        resized = F.interpolate(table.view(1, -1, *grid), size=size, mode="bilinear", align_corners=True)
        table = resized.flatten(2)[0]
    rows, columns = torch.arange(height, device=table.device), torch.arange(width, device=table.device)
    down = (rows[::step, None] - rows).abs()
    across = (columns[::step, None] - columns).abs()
    index = down[:, None, :, None] * width + across[None, :, None, :]
    return table[:, index.flatten(2).flatten(0, 1)]


class AnySizeAttention(nn.Module):
    """Takes over the layers, biases and buffers of timm's attention module ``source``, under their names."""

    attention_biases: Tensor

    def __init__(self, source: Any, grid: Size) -> None:
        super().__init__()
        self.grid = grid
        self.num_heads: int = source.num_heads
        self.scale: float = source.scale
        kept = source.state_dict(keep_vars=True)
        for name, child in source.named_children():
            self.add_module(name, child)
        for name, parameter in source.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in source.named_buffers(recurse=False):
            if name in kept:  # V1 stores the indices of its 7 x 7 table, which its weights files then hold
                self.register_buffer(name, buffer)


class TokenAttention(AnySizeAttention):
    """EfficientFormer's attention with a bias per head and distance; (N, h, w, C) -> (N, h, w, C)."""

    qkv: nn.Module
    proj: nn.Module

    def __init__(self, source: Any) -> None:
        side = math.isqrt(source.attention_biases.shape[1])
        super().__init__(source, (side, side))
        self.widths = (source.key_dim, source.key_dim, source.val_dim)

    def forward(self, x: Tensor) -> Tensor:
        n, height, width, _ = x.shape
        joint = self.qkv(x).reshape(n, height * width, self.num_heads, -1).transpose(1, 2)
        query, key, value = joint.split(self.widths, dim=3)
        weights = (query @ key.transpose(2, 3)) * self.scale
        weights = weights + spread_biases(self.attention_biases, self.grid, (height, width))
        mixed = (weights.softmax(dim=-1) @ value).transpose(1, 2).reshape(n, height, width, -1)
        out: Tensor = self.proj(mixed)
        return out


class MapAttention(AnySizeAttention):
    """EfficientFormerV2's attention on maps; (N, C, h, w) -> (N, C', h / step, w / step), rounded up.

    With ``stride_conv`` it works on a map of half the size and enlarges the result; where it has talking heads, 1x1
    convolutions mix the heads before and after the softmax.
    """

    q: nn.Module
    k: nn.Module
    v: nn.Module
    v_local: nn.Module
    act: nn.Module
    proj: nn.Module
    stride_conv: nn.Module
    talking_head1: nn.Module
    talking_head2: nn.Module

    def __init__(self, source: Any) -> None:
        from timm.models.efficientformer_v2 import Attention2dDownsample

        super().__init__(source, (int(source.resolution[0]), int(source.resolution[1])))
        self.step = 2 if isinstance(source, Attention2dDownsample) else 1
        self.strided = getattr(source, "stride_conv", None) is not None
        self.talking = self.step == 1

    def split(self, x: Tensor) -> Tensor:
        """(N, heads * d, h, w) -> (N, heads, h * w, d)."""
        n, channels, height, width = x.shape
        return x.reshape(n, self.num_heads, channels // self.num_heads, height * width).transpose(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        if self.strided:
            x = self.stride_conv(x)
        query, value = self.q(x), self.v(x)
        weights = (self.split(query) @ self.split(self.k(x)).transpose(2, 3)) * self.scale
        weights = weights + spread_biases(self.attention_biases, self.grid, (x.shape[-2], x.shape[-1]), self.step)
        if self.talking:
            weights = self.talking_head2(self.talking_head1(weights).softmax(dim=-1))
        else:
            weights = weights.softmax(dim=-1)
        mixed = (weights @ self.split(value)).transpose(2, 3)
        mixed = mixed.reshape(x.shape[0], value.shape[1], *query.shape[-2:]) + self.v_local(value)
        out: Tensor = self.proj(self.act(resize_to(mixed, size) if self.strided else mixed))
        return out


class Stages(nn.Module):
    """The maps of EfficientFormer's stages, which timm takes out by the sizes they have at 224 (same parameter names).

    The last stage works on (N, h, w, C) from its first attention on, where timm has (N, h * w, C), and gives a map.
    """

    def __init__(self, getter: Any) -> None:
        super().__init__()
        self.model = getter.model
        self.feature_info = getter.feature_info
        self.wanted = list(getter.feature_info.out_indices)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.model.stem(x)
        maps = []
        for stage in self.model.stages:
            x = stage(x)
            maps.append(x)
        return [maps[i] for i in self.wanted]


def any_size(encoder: Any) -> Any:
    """timm's ``encoder`` (a list of maps), changed in place where it is an EfficientFormer, else as it was."""
    from timm.models import efficientformer, efficientformer_v2

    attention: dict[type[nn.Module], type[TokenAttention] | type[MapAttention]] = {
        efficientformer.Attention: TokenAttention,
        efficientformer_v2.Attention2d: MapAttention,
        efficientformer_v2.Attention2dDownsample: MapAttention,
    }
    first = isinstance(getattr(encoder, "model", None), efficientformer.EfficientFormer)
    for module in list(encoder.modules()):
        children = dict(module.named_children())
        for name, child in children.items():
            if type(child) in attention:
                setattr(module, name, attention[type(child)](child))
            elif isinstance(child, efficientformer.Flat):
                setattr(module, name, ChannelsLast())
                setattr(module, str(len(children)), ChannelsFirst())
    return Stages(encoder) if first else encoder
