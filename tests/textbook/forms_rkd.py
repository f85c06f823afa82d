"""Relational distillation in the published order of operations: every difference vector, every angle."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pairwise(e: Tensor, eps: float = 1e-12) -> Tensor:
    """(M, D) -> distances (M, M)."""
    squares = e.pow(2).sum(dim=1)
    d = (squares.unsqueeze(1) + squares.unsqueeze(0) - 2 * (e @ e.t())).clamp(min=eps).sqrt()
    return d * (1 - torch.eye(len(e), dtype=e.dtype))


def rkd_distance_repdistiller(student: Tensor, teacher: Tensor) -> Tensor:
    d_t, d_s = pairwise(teacher), pairwise(student)
    return F.smooth_l1_loss(d_s / d_s[d_s > 0].mean(), d_t / d_t[d_t > 0].mean())


def rkd_angle_repdistiller(student: Tensor, teacher: Tensor) -> Tensor:
    angles = []
    for feature in (student, teacher):
        towards = F.normalize(feature.unsqueeze(0) - feature.unsqueeze(1), p=2, dim=2)
        angles.append(torch.bmm(towards, towards.transpose(1, 2)).view(-1))
    return F.smooth_l1_loss(angles[0], angles[1])


def rkd_repdistiller(student: Tensor, teacher: Tensor, w_d: float, w_a: float) -> Tensor:
    return w_d * rkd_distance_repdistiller(student, teacher) + w_a * rkd_angle_repdistiller(student, teacher)
