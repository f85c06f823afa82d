"""The critic of holistic distillation: a convolutional critic with self-attention (SAGAN) and spectral norm.

Zhang et al., Self-Attention Generative Adversarial Networks, ICML 2019, arXiv 1805.08318, as used by Liu et al. (SKD),
arXiv 1903.04197; spectral norm: Miyato et al., ICLR 2018, arXiv 1802.05957.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST = 64  # height and width from which four halvings leave the last 4 x 4 convolution a place
SLOPE = 0.1  # of the leaky ReLU below 0
TINY = 1e-12
START = 50  # power iterations at the start: the first spectral norms are right to a few percent, not guesses


class SpectralConv(nn.Conv2d):
    """A 4 x 4 convolution of stride 2 whose weight, as matrix (out, in * 16), is divided by its largest singular value.

    ``sigma = u^T W v`` with the buffers u (out,) and v (in * 16,). They move in ``iterate`` alone: a forward pass
    changes nothing, and is differentiated through W with u and v held, as is usual.
    """

    u: Tensor
    v: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=4, stride=2, padding=1)
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))
        self.register_buffer("v", torch.zeros(in_channels * 16))
        self.iterate(START)

    @torch.no_grad()
    def iterate(self, times: int = 1) -> None:
        """Power iteration: u and v move towards the first pair of singular vectors of the present weight."""
        matrix = self.weight.flatten(1)
        for _ in range(times):
            self.v.copy_(F.normalize(self.u @ matrix, dim=0, eps=TINY))
            self.u.copy_(F.normalize(matrix @ self.v, dim=0, eps=TINY))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out, H // 2, W // 2)."""
        sigma = self.u @ (self.weight.flatten(1) @ self.v)
        weight = self.weight / sigma.clamp_min(TINY)
        return F.conv2d(x, weight, self.bias, self.stride, 1)


class SelfAttention(nn.Module):
    """``x + gamma * (value, averaged over all positions with weights softmax(query . key))``; gamma starts at 0.

    Memory is quadratic in the number of positions. Not torch's fused attention: that has no second derivative, which
    the gradient penalty needs.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 8, 1)
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        query, key, value = (conv(x).flatten(2) for conv in (self.query, self.key, self.value))
        weight = (query.transpose(1, 2) @ key).softmax(dim=2)  # (N, position, position that it looks at)
        seen = value @ weight.transpose(1, 2)
        out: Tensor = x + self.gamma * seen.view(x.shape)
        return out


class Critic(nn.Module):
    """Maps (N, in_channels, H, W) -> scores (N, 1, h, w), unbounded; 64 to 79 positions an axis give one score.

    Four halving convolutions of ``conv_dim`` * (1, 2, 4, 8) channels with spectral norm and leaky ReLU, self-attention
    after the third and the fourth, and a plain 4 x 4 convolution. Maps below 64 positions are padded with zeros, evenly
    on both sides. There is no BatchNorm: a score, and its gradient, belongs to one sample alone.
    """

    def __init__(self, in_channels: int, conv_dim: int = 64) -> None:
        super().__init__()
        widths = [in_channels, *(conv_dim * 2**k for k in range(4))]
        self.stages = nn.ModuleList([SpectralConv(*pair) for pair in zip(widths, widths[1:], strict=False)])
        self.attentions = nn.ModuleList([SelfAttention(width) for width in widths[3:]])
        self.score = nn.Conv2d(widths[4], 1, kernel_size=4)

    def iterate(self) -> None:
        """One power iteration of every spectral norm: to be called when the weights have moved."""
        for stage in self.stages:
            assert isinstance(stage, SpectralConv)
            stage.iterate()

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to(x, SMALLEST)
        for k, stage in enumerate(self.stages):
            x = F.leaky_relu(stage(x), SLOPE)
            if k >= 2:
                x = self.attentions[k - 2](x)
        scores: Tensor = self.score(x)
        return scores


def pad_to(x: Tensor, least: int) -> Tensor:
    """(N, C, H, W) with zeros around it, evenly, so that H and W are at least ``least``."""
    rows, columns = (max(least - size, 0) for size in x.shape[-2:])
    if not rows and not columns:
        return x
    return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
