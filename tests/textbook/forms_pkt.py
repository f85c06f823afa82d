"""Probabilistic knowledge transfer in the published order of operations, and by loops."""

from __future__ import annotations

import torch
from torch import Tensor


def pkt_repdistiller(student: Tensor, teacher: Tensor, eps: float = 1e-7) -> Tensor:
    """(M, D) -> mean over all pairs."""
    probabilities = []
    for feature in (student, teacher):
        normed = feature / (feature.pow(2).sum(dim=1, keepdim=True).sqrt() + eps)
        similarity = (torch.mm(normed, normed.transpose(0, 1)) + 1.0) / 2.0
        probabilities.append(similarity / similarity.sum(dim=1, keepdim=True))
    p_s, p_t = probabilities
    return torch.mean(p_t * torch.log((p_t + eps) / (p_s + eps)))


def pkt_loop(student: Tensor, teacher: Tensor) -> Tensor:
    """The same without eps, by loops: mean over samples of the KL divergence of their neighbours' probabilities."""
    terms = []
    for i in range(len(student)):
        kernels = [
            torch.stack([(1 + torch.dot(x[i], y) / (x[i].norm() * y.norm())) / 2 for y in x])
            for x in (student, teacher)
        ]
        q, p = (k / k.sum() for k in kernels)
        terms.append((p * (p / q).log()).sum())
    return torch.stack(terms).mean()
