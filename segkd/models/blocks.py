"""The vocabulary from which the light networks are put together; ``fusion.py`` has what joins maps of several sizes.

Shapes are (N, C, H, W). A convolution of stride s makes ceil(H / s) x ceil(W / s), like every pooling here; every
resize is to a target size. ``eps`` is that of BatchNorm; ``act`` a name of
``ACTIVATIONS``, True for ReLU, False for none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from segkd.errors import UserError, nearest

EPS = 1e-5
ESP_DILATIONS = (1, 2, 4, 8, 16)
#: name -> the layer for so many channels
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda channels: nn.ReLU(inplace=True),
    "relu6": lambda channels: nn.ReLU6(inplace=True),
    "leaky_relu": lambda channels: nn.LeakyReLU(0.01, inplace=True),
    "prelu": nn.PReLU,
    "hardswish": lambda channels: nn.Hardswish(inplace=True),
    "gelu": lambda channels: nn.GELU(),
}


def activation(act: bool | str, channels: int) -> list[nn.Module]:
    """The activation as a list of one layer, or of none."""
    name = ("relu" if act else "") if isinstance(act, bool) else act
    if name and name not in ACTIVATIONS:
        raise UserError(f"unknown activation {name!r}; {nearest(name, ACTIVATIONS)}")
    return [ACTIVATIONS[name](channels)] if name else []


def convolution(
    cin: int,
    cout: int,
    kernel: int | tuple[int, int] = 3,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """A convolution of odd ``kernel`` (or (height, width)) whose zero padding keeps the size at stride 1."""
    high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (dilation * (high // 2), dilation * (wide // 2))
    return nn.Conv2d(cin, cout, (high, wide), stride, padding, dilation, groups, bias)


class ConvNormAct(nn.Sequential):
    """Convolution (without bias unless asked), BatchNorm, activation."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int | tuple[int, int] = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        act: bool | str = True,
        bias: bool = False,
        eps: float = EPS,
    ) -> None:
        conv = convolution(cin, cout, kernel, stride, dilation, groups, bias)
        super().__init__(conv, nn.BatchNorm2d(cout, eps=eps), *activation(act, cout))


class TransposedNormAct(nn.Sequential):
    """Transposed 3x3 convolution that multiplies the size by ``stride``, BatchNorm, ReLU."""

    def __init__(self, cin: int, cout: int, stride: int = 2, bias: bool = False, eps: float = EPS) -> None:
        conv = nn.ConvTranspose2d(cin, cout, 3, stride, 1, stride - 1, bias=bias)
        super().__init__(conv, nn.BatchNorm2d(cout, eps=eps), *activation(True, cout))


class NormActConv(nn.Sequential):
    """Pre-activation order: BatchNorm, activation, convolution."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        dilation: int = 1,
        act: bool | str = True,
        bias: bool = False,
        eps: float = EPS,
        momentum: float = 0.1,
    ) -> None:
        conv = convolution(cin, cout, kernel, stride, dilation, bias=bias)
        super().__init__(nn.BatchNorm2d(cin, eps=eps, momentum=momentum), *activation(act, cin), conv)


class NormAct(nn.Module):
    """BatchNorm (eps 1e-3) and PReLU with a slope per channel, as ESPNet, DABNet and CGNet have them."""

    def __init__(self, channels: int, eps: float = 1e-3) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=eps)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm(x))
        return out


class DepthwiseSeparable(nn.Sequential):
    """Depthwise 3x3 with BatchNorm, then pointwise 1x1 with BatchNorm and ReLU.

    Args:
        act_between: a ReLU after the depthwise convolution too.
    """

    def __init__(self, cin: int, cout: int, stride: int = 1, act_between: bool = False) -> None:
        super().__init__(
            ConvNormAct(cin, cin, 3, stride, groups=cin, act=act_between),
            ConvNormAct(cin, cout, 1),
        )


class ChannelShuffle(nn.Module):
    """Deals the channels out over ``groups``, so that the next grouped convolution sees all (Zhang et al. 2018)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.reshape(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class GroupedShuffle(nn.Sequential):
    """Grouped convolution with BatchNorm and ReLU, then a channel shuffle."""

    def __init__(self, cin: int, cout: int, groups: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(ConvNormAct(cin, cout, kernel, stride, groups=groups), ChannelShuffle(groups))


class Asymmetric(nn.Sequential):
    """k x 1, then 1 x k, of equal width: one k x k convolution of rank one per channel pair.

    Args:
        kernel: odd k.
        groups: of both; ``channels`` makes them depthwise.
        between: "" for nothing between the two, "act" for the activation, "norm_act" for BatchNorm and it.
        act: the activation; it does not follow the second convolution.
    """

    def __init__(
        self,
        channels: int,
        kernel: int = 3,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        between: str = "",
        act: bool | str = True,
        eps: float = EPS,
    ) -> None:
        if between not in ("", "act", "norm_act"):
            raise UserError(f"Asymmetric between must be '', 'act' or 'norm_act', got {between!r}")
        tall, wide = ((kernel, 1), (1, kernel))
        middle: list[nn.Module] = [nn.BatchNorm2d(channels, eps=eps)] if between == "norm_act" else []
        super().__init__(
            convolution(channels, channels, tall, 1, dilation, groups, bias),
            *middle,
            *(activation(act, channels) if between else []),
            convolution(channels, channels, wide, 1, dilation, groups, bias),
        )


class ResidualBasic(nn.Module):
    """ResNet's basic block: two 3x3; the identity is projected (1x1 with BatchNorm) where stride or width change.

    Args:
        final_act: False leaves the ReLU after the sum out (the sum then goes into two branches of DDRNet or PIDNet).
    """

    expansion = 1

    def __init__(self, cin: int, width: int, stride: int = 1, dilation: int = 1, final_act: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNormAct(cin, width, 3, stride, dilation), ConvNormAct(width, width, 3, 1, dilation, act=False)
        )
        self.shortcut = _projection(cin, width, stride)
        self.act = nn.ReLU() if final_act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.body(x) + self.shortcut(x))
        return out


class ResidualBottleneck(nn.Module):
    """ResNet's bottleneck: 1x1 to ``width``, 3x3, 1x1 to ``width * expansion``; the identity projected where needed.

    Args:
        stride_first: the stride is in the first 1x1 (He et al. 2016, ICNet) and not in the 3x3.
        final_act: a ReLU after the sum.
    """

    def __init__(
        self,
        cin: int,
        width: int,
        stride: int = 1,
        dilation: int = 1,
        expansion: int = 4,
        stride_first: bool = False,
        final_act: bool = True,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_first else (1, stride)
        self.body = nn.Sequential(
            ConvNormAct(cin, width, 1, first),
            ConvNormAct(width, width, 3, second, dilation),
            ConvNormAct(width, width * expansion, 1, act=False),
        )
        self.shortcut = _projection(cin, width * expansion, stride)
        self.act = nn.ReLU() if final_act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.body(x) + self.shortcut(x))
        return out


def _projection(cin: int, cout: int, stride: int) -> nn.Module:
    return nn.Identity() if cin == cout and stride == 1 else ConvNormAct(cin, cout, 1, stride, act=False)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: 1x1 to ``expand`` times the width, depthwise 3x3, linear 1x1; plus identity if it fits."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int) -> None:
        super().__init__()
        width = cin * expand
        self.shortcut = stride == 1 and cin == cout
        self.body = nn.Sequential(
            ConvNormAct(cin, width, 1),
            ConvNormAct(width, width, 3, stride, groups=width),
            ConvNormAct(width, cout, 1, act=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.shortcut else out


class SpatialPyramid(NormAct):
    """The ESP block: reduce, five parallel dilated 3x3 convolutions, hierarchical sums, concatenation (Mehta 2018).

    With y_d the branch of dilation d: [y_1, y_2, y_2 + y_4, y_2 + y_4 + y_8, y_2 + y_4 + y_8 + y_16]. The sums remove
    the gridding of large dilations. A branch has cout // 5 channels, the first takes the rest.

    Args:
        down: reduce with a 3x3 convolution of stride 2 instead of 1x1.
        residual: add the input before BatchNorm and PReLU.
    """

    def __init__(self, cin: int, cout: int, down: bool = False, residual: bool = True) -> None:
        super().__init__(cout)
        width = cout // len(ESP_DILATIONS)
        first = cout - width * (len(ESP_DILATIONS) - 1)
        self.residual = residual and not down
        self.reduce = convolution(cin, width, 3, 2) if down else convolution(cin, width, 1)
        self.branches = nn.ModuleList(
            convolution(width, first if d == 1 else width, 3, dilation=d) for d in ESP_DILATIONS
        )

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        first, total, *others = [branch(reduced) for branch in self.branches]
        parts = [first, total]
        for other in others:
            total = total + other
            parts.append(total)
        joined = torch.cat(parts, dim=1)
        return super().forward(x + joined if self.residual else joined)


class DownConcat(nn.Module):
    """Halves the size: a 3x3 convolution of stride 2 beside a max pooling, concatenated (ENet, ERFNet, DABNet).

    The convolution makes ``cout - cin`` channels; where that is less than one, it makes all ``cout`` and nothing pools.

    Args:
        pool: kernel of the pooling, 2 or 3.
    """

    def __init__(self, cin: int, cout: int, pool: int = 2, bias: bool = False) -> None:
        super().__init__()
        self.pools = cout > cin
        self.conv = convolution(cin, cout - cin if self.pools else cout, 3, 2, bias=bias)
        # Odd sizes: a pooling of 2 must round up, as the convolution does.
        self.pool = nn.MaxPool2d(pool, 2, padding=pool // 2 if pool % 2 else 0, ceil_mode=pool % 2 == 0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return torch.cat([out, self.pool(x)], dim=1) if self.pools else out
