"""Plain reference forms of the distillation of activation boundaries."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def ab_layer_sum(student: Tensor, teacher: Tensor, margin: float = 1.0) -> Tensor:
    """(N, C, H, W) -> the sum, each case times its indicator as a map of numbers."""
    wrongly_on = ((student > -margin) & (teacher <= 0)).to(student.dtype)
    wrongly_off = ((student <= margin) & (teacher > 0)).to(student.dtype)
    return ((student + margin) ** 2 * wrongly_on + (student - margin) ** 2 * wrongly_off).sum()


def ab_published(students: Sequence[Tensor], teachers: Sequence[Tensor], margin: float = 1.0) -> Tensor:
    """Layers from first to last: weights 1/2^(L-1), ..., 1/2, 1, over the batch, times 3 / 1000."""
    total = students[0].new_zeros(())
    for i, (s, t) in enumerate(zip(students, teachers, strict=True)):
        total = total + ab_layer_sum(s, t, margin) * 2.0 ** (i - len(students) + 1)
    return total / students[0].shape[0] * 3 / 1000


def ab_loop(student: Tensor, teacher: Tensor, margin: float, valid: Tensor) -> Tensor:
    """One number at a time over the valid positions, averaged over channels and positions."""
    terms = []
    for n, y, x in valid.nonzero().tolist():
        for c in range(student.shape[1]):
            s, t = student[n, c, y, x], teacher[n, c, y, x]
            wanted = s - margin if t > 0 else -s - margin
            terms.append(torch.clamp(wanted, max=0) ** 2)
    return torch.stack(terms).mean()
