"""Decoupled KD as one would write it down: probabilities first, then sums of them, then logarithms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dkd_rows(student: Tensor, teacher: Tensor, target: Tensor, alpha: float, beta: float, temperature: float) -> Tensor:
    """Rows (M, K), target (M,) -> T^2 * (alpha * TCKD + beta * NCKD) / M, in the authors' order of operations."""
    own = F.one_hot(target, student.shape[1]).to(student.dtype)
    pairs = []
    for logits in (student, teacher):
        p = torch.softmax(logits / temperature, dim=1)
        pairs.append(torch.stack([(p * own).sum(1), (p * (1 - own)).sum(1)], dim=1))
    tckd = F.kl_div(pairs[0].log(), pairs[1], reduction="sum")
    log_q_s = torch.log_softmax(student / temperature - 1000 * own, dim=1)
    q_t = torch.softmax(teacher / temperature - 1000 * own, dim=1)
    nckd = F.kl_div(log_q_s, q_t, reduction="sum")
    return temperature**2 * (alpha * tckd + beta * nckd) / len(target)


def dkd_loop(
    student: Tensor, teacher: Tensor, label: Tensor, counted: Tensor, alpha: float, beta: float, temperature: float
) -> Tensor:
    """Maps (N, K, H, W), by loops over the counted pixels, with the other classes really left out."""
    terms = []
    for n, y, x in counted.nonzero().tolist():
        own = int(label[n, y, x])
        others = [k for k in range(student.shape[1]) if k != own]
        p_s = torch.softmax(student[n, :, y, x] / temperature, dim=0)
        p_t = torch.softmax(teacher[n, :, y, x] / temperature, dim=0)
        binary_s = torch.stack([p_s[own], p_s[others].sum()])
        binary_t = torch.stack([p_t[own], p_t[others].sum()])
        q_s, q_t = p_s[others] / p_s[others].sum(), p_t[others] / p_t[others].sum()
        tckd = (binary_t * (binary_t / binary_s).log()).sum()
        nckd = (q_t * (q_t / q_s).log()).sum()
        terms.append(alpha * tckd + beta * nckd)
    return temperature**2 * torch.stack(terms).mean()
