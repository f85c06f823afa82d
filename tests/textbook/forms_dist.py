"""DIST as one would write it down: rows of pixels, softmax, centre, cosine; once as it is, once transposed."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_correlation(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """(M, D) -> mean over rows of Pearson's correlation; ``eps`` is added to the product of the norms."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + eps)).mean()


def dist_published(
    student: Tensor, teacher: Tensor, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0, eps: float = 1e-8
) -> Tensor:
    """(N, K, H, W) -> T^2 * (beta * (1 - mean over pixels) + gamma * (1 - mean over classes)) of the correlations."""
    classes = student.shape[1]
    p_s, p_t = (torch.softmax(x.transpose(1, 3).reshape(-1, classes) / temperature, 1) for x in (student, teacher))
    inter = 1 - mean_correlation(p_s, p_t, eps)
    intra = 1 - mean_correlation(p_s.T, p_t.T, eps)
    return temperature**2 * (beta * inter + gamma * intra)


def dist_corrcoef(
    student: Tensor, teacher: Tensor, valid: Tensor, beta: float, gamma: float, temperature: float
) -> Tensor:
    """The same by torch.corrcoef over loops, over the valid pixels (N, H, W)."""
    p_s, p_t = ((x / temperature).softmax(1).movedim(1, -1)[valid] for x in (student, teacher))
    inter = [1 - torch.corrcoef(torch.stack(rows))[0, 1] for rows in zip(p_s, p_t, strict=True)]
    intra = [1 - torch.corrcoef(torch.stack(rows))[0, 1] for rows in zip(p_s.T, p_t.T, strict=True)]
    return temperature**2 * (beta * torch.stack(inter).mean() + gamma * torch.stack(intra).mean())
