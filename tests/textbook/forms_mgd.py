"""MGD as one would write it down, in the published order: a mask of ones and zeros, generation, sum over N."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def mgd(
    student: Tensor,
    teacher: Tensor,
    uniform: Tensor,
    block: Mapping[str, Tensor],
    share: float = 0.75,
    alpha: float = 2e-5,
) -> Tensor:
    """Features (N, C, H, W), uniform (N, 1, H, W) -> alpha * sum / N; ``block`` as torch names its parameters."""
    mask = torch.where(uniform > 1 - share, 0.0, 1.0).to(student)
    return alpha * F.mse_loss(generate(student * mask, block), teacher, reduction="sum") / student.shape[0]


def generate(x: Tensor, block: Mapping[str, Tensor]) -> Tensor:
    """3 x 3 convolution, ReLU, 3 x 3 convolution."""
    x = F.relu(F.conv2d(x, block["0.weight"], block["0.bias"], padding=1))
    return F.conv2d(x, block["2.weight"], block["2.bias"], padding=1)
