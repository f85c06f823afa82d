"""Plain forms for tests of networks: a convolution with BatchNorm by its formula, and random statistics."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.segmentor import Segmentor
from segkd.workbench.composing import compose

Module = TypeVar("Module", bound=nn.Module)


def randomise(network: Module) -> Module:
    """float64, eval, with BatchNorms that do something."""
    torch.manual_seed(0)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    return network.double().eval()


def normalised(x: Tensor, norm: nn.Module) -> Tensor:
    """BatchNorm in eval by its formula."""
    assert isinstance(norm, nn.BatchNorm2d)
    mean, var, scale, shift = (
        v.view(1, -1, 1, 1) for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (var + 1e-5).sqrt() * scale + shift


def conv_norm(x: Tensor, block: nn.Module, stride: int = 1, depthwise: bool = False) -> Tensor:
    """A convolution without bias, zero-padded by half its kernel, and BatchNorm."""
    conv, norm = list(block.children())[:2]
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is None
    padding, groups = conv.weight.shape[-1] // 2, x.shape[1] if depthwise else 1
    return normalised(F.conv2d(x, conv.weight, stride=stride, padding=padding, groups=groups), norm)


def conv_norm_relu(x: Tensor, block: nn.Module, stride: int = 1, depthwise: bool = False) -> Tensor:
    return conv_norm(x, block, stride, depthwise).clamp_min(0)


def pointwise(x: Tensor, conv: nn.Module) -> Tensor:
    """A 1x1 convolution, with its bias if it has one."""
    assert isinstance(conv, nn.Conv2d)
    out = torch.einsum("oi,nihw->nohw", conv.weight[:, :, 0, 0], x)
    return out if conv.bias is None else out + conv.bias.view(1, -1, 1, 1)


def mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Each pixel from the cell that it falls into."""
    rows, columns = (torch.arange(n) * m // n for n, m in zip(size, x.shape[-2:], strict=True))
    return x[:, :, rows][:, :, :, columns]


def segmentor(name: str, data: str) -> Segmentor:
    """What a network trains as on a data set, on meta."""
    model = compose(name, data=data)["model"]
    with torch.device("meta"):
        return Segmentor(model["network"], model["supervision"])
