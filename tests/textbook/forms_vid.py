"""Plain reference forms of variational information distillation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def vid_published(
    student: Tensor, teacher: Tensor, weights: Sequence[Tensor], log_scale: Tensor, eps: float = 1e-5
) -> Tensor:
    """Three pointwise convolutions, then the mean over N, C, H, W of the Gaussian's negative log likelihood."""
    hidden = F.relu(F.conv2d(student, weights[0]))
    hidden = F.relu(F.conv2d(hidden, weights[1]))
    mean = F.conv2d(hidden, weights[2])
    variance = torch.log(1.0 + torch.exp(log_scale)) + eps
    variance = variance.view(1, -1, 1, 1)
    return torch.mean(0.5 * ((mean - teacher) ** 2 / variance + torch.log(variance)))


def vid_loop(mean: Tensor, teacher: Tensor, variance: Tensor, valid: Tensor) -> Tensor:
    """By loops over valid positions, from the density of torch's Gaussian, its constant taken off."""
    constant = 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=mean.dtype))
    terms = []
    for n, y, x in valid.nonzero().tolist():
        gaussian = torch.distributions.Normal(mean[n, :, y, x], variance.sqrt())
        terms.append((-gaussian.log_prob(teacher[n, :, y, x]) - constant).mean())
    return torch.stack(terms).mean()
