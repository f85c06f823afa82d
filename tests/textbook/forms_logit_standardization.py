"""Logit standardization as one would write it down, for rows of one pixel each."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def z_score(rows: Tensor) -> Tensor:
    """(M, K) -> each row less its mean, over its deviation."""
    return (rows - rows.mean(dim=1, keepdim=True)) / (1e-7 + rows.std(dim=1, keepdim=True))


def kd_torchdistill(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """(M, K) -> KL / M, without T^2."""
    log_s = F.log_softmax(z_score(student) / temperature, dim=1)
    p_t = F.softmax(z_score(teacher) / temperature, dim=1)
    return F.kl_div(log_s, p_t, reduction="batchmean")


def kd_loop(student: Tensor, teacher: Tensor, valid: Tensor, temperature: float = 2.0) -> Tensor:
    """(N, K, H, W), by loops over the valid pixels -> T^2 * mean of the KL."""
    terms = []
    for n, y, x in valid.nonzero().tolist():
        p = []
        for logits in (student[n, :, y, x], teacher[n, :, y, x]):
            deviations = logits - logits.sum() / len(logits)
            std = (deviations.pow(2).sum() / (len(logits) - 1)).sqrt()
            p.append(torch.softmax(deviations / (std + 1e-7) / temperature, dim=0))
        terms.append((p[1] * (p[1] / p[0]).log()).sum())
    return temperature**2 * torch.stack(terms).mean()
