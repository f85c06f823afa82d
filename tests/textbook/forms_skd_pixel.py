"""SKD's pixel-wise term as published: a cross entropy, summed over the batch, divided by the map's size alone."""

from __future__ import annotations

import torch
from torch import Tensor


def skd_pixelwise(student: Tensor, teacher: Tensor) -> Tensor:
    """(N, K, H, W) -> sum over everything of -softmax(teacher) * log softmax(student), over H * W."""
    _, classes, h, w = student.shape
    rows_s = student.permute(0, 2, 3, 1).contiguous().view(-1, classes)
    rows_t = teacher.permute(0, 2, 3, 1).contiguous().view(-1, classes)
    return (-torch.softmax(rows_t, dim=1) * torch.log_softmax(rows_s, dim=1)).sum() / h / w


def entropy_loop(teacher: Tensor) -> Tensor:
    """(N, K, H, W) -> mean over the pixels of the entropy of their distribution."""
    n, _, h, w = teacher.shape
    total = teacher.new_zeros(())
    for i in range(n):
        for y in range(h):
            for x in range(w):
                p = torch.softmax(teacher[i, :, y, x], dim=0)
                total = total - (p * p.log()).sum()
    return total / (n * h * w)
