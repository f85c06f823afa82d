"""Knowledge adaptation as written down: the paper's affinity, torchdistill's, and torchdistill's adaptation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def affinity(student: Tensor, teacher: Tensor) -> Tensor:
    """The paper's: cosines of all pairs of positions, squared difference / P^2, mean over samples."""
    terms = []
    for s, t in zip(student, teacher, strict=True):
        pairs = [F.cosine_similarity(f.flatten(1)[:, :, None], f.flatten(1)[:, None], dim=0) for f in (s, t)]
        terms.append((pairs[0] - pairs[1]).pow(2).sum() / pairs[0].numel())
    return torch.stack(terms).mean()


def affinity_torchdistill(student: Tensor, teacher: Tensor) -> Tensor:
    """Channel by channel, outer products of maps of unit length; Frobenius norm / P, summed over channels."""
    s, t = student.flatten(2), teacher.flatten(2)
    s, t = s / s.pow(2).sum(2, keepdim=True).sqrt(), t / t.pow(2).sum(2, keepdim=True).sqrt()
    total = torch.zeros(len(s), dtype=s.dtype)
    for c in range(s.shape[1]):
        products = [x[:, c, :, None] * x[:, c, None, :] for x in (s, t)]
        total = total + ((products[0] - products[1]) / s.shape[2]).pow(2).sum((1, 2)).sqrt()
    return total.mean()


def adapt(student: Tensor, teacher: Tensor) -> Tensor:
    """p = 1, q = 2 in torchdistill's order: whole codes of unit length, mean of absolute differences."""
    s, t = student.flatten(1), teacher.flatten(1)
    return (s / s.norm(dim=1, keepdim=True) - t / t.norm(dim=1, keepdim=True)).abs().mean()
