"""Factor transfer as one would write it down, in the published order, and the networks around it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def ft(student: Tensor, teacher: Tensor, p: float = 1.0) -> Tensor:
    """Factors (N, C, H, W) -> mean over everything of |difference of whole factors of unit length|^p."""
    s, t = F.normalize(student.reshape(student.shape[0], -1)), F.normalize(teacher.reshape(teacher.shape[0], -1))
    return (s - t).abs().pow(p).mean()


def ft_repdistiller(student: Tensor, teacher: Tensor, p1: int = 2, p2: int = 1) -> Tensor:
    """The same of the factors' attention maps: collapsed over the channels before they are normalised."""
    return ft(student.pow(p1).mean(1, keepdim=True), teacher.pow(p1).mean(1, keepdim=True), p2)


def ft_loop(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """p = 1 by loops over samples, over the valid positions (N, H, W) alone; each part divided by its size's root."""
    values = []
    for n in range(student.shape[0]):
        if valid[n].any():
            s, t = student[n][:, valid[n]].flatten(), teacher[n][:, valid[n]].flatten()
            values.append((s / s.norm() - t / t.norm()).abs().sum() / s.numel() ** 0.5)
    return torch.stack(values).mean()


def encode(x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Three 3 x 3 convolutions, each with a leaky ReLU; weights as torch names them in a Sequential."""
    for i in (0, 2, 4):
        x = F.leaky_relu(F.conv2d(x, weights[f"{i}.weight"], weights[f"{i}.bias"], padding=1), 0.1)
    return x


def decode(x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Three 3 x 3 transposed convolutions, each with a leaky ReLU."""
    for i in (0, 2, 4):
        x = F.leaky_relu(F.conv_transpose2d(x, weights[f"{i}.weight"], weights[f"{i}.bias"], padding=1), 0.1)
    return x
