"""Similarity-preserving distillation in the published order of operations, and by loops."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sp_repdistiller(student: Tensor, teacher: Tensor) -> Tensor:
    """(M, ...) -> mean over all pairs of the squared difference of row-normalised Gram matrices."""
    f_s, f_t = student.reshape(student.shape[0], -1), teacher.reshape(teacher.shape[0], -1)
    g_s, g_t = F.normalize(f_s @ f_s.t()), F.normalize(f_t @ f_t.t())
    return (g_t - g_s).pow(2).sum() / student.shape[0] ** 2


def sp_loop(student: Tensor, teacher: Tensor) -> Tensor:
    """(M, D) -> mean over samples of the squared distance of their rows."""
    terms = []
    for i in range(student.shape[0]):
        rows = []
        for feature in (student, teacher):
            row = torch.stack([torch.dot(feature[i], other) for other in feature])
            rows.append(row / row.pow(2).sum().sqrt())
        terms.append((rows[0] - rows[1]).pow(2).sum())
    return torch.stack(terms).mean()
