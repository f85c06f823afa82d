"""Correlation congruence in the published order of operations; rows of unit length."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def bilinear(rows: Tensor) -> Tensor:
    return torch.matmul(rows, torch.t(rows))


def gaussian(rows: Tensor, gamma: float, max_p: int) -> Tensor:
    """Row by row and power by power."""
    lines = []
    for row in rows:
        product = torch.matmul(row, torch.t(rows))
        line = torch.ones_like(product)
        for p in range(1, max_p + 1):
            line = line + (2 * gamma) ** p / math.factorial(p) * product**p
        lines.append(math.exp(-2 * gamma) * line)
    return torch.stack(lines)


def gaussian_exact(rows: Tensor, gamma: float) -> Tensor:
    """exp(-gamma |x - y|^2), without the expansion."""
    return torch.exp(-gamma * (rows[:, None] - rows[None]).pow(2).sum(2))


def cc_torchdistill(student: Tensor, teacher: Tensor) -> Tensor:
    """The Frobenius norm, not squared, over M^2."""
    return torch.dist(bilinear(teacher), bilinear(student), 2) / student.shape[0] ** 2


def cc_paper(kernel_s: Tensor, kernel_t: Tensor) -> Tensor:
    return (kernel_s - kernel_t).norm() ** 2 / kernel_s.shape[0] ** 2


def cc_repdistiller(student: Tensor, teacher: Tensor) -> Tensor:
    """The authors' code: products of differences of neighbours in the batch."""
    delta = torch.abs(student - teacher)
    return torch.mean((delta[:-1] * delta[1:]).sum(1))
