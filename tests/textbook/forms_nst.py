"""NST as one would write it down, in the published order: unit channel maps, and all their products by position."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def nst(student: Tensor, teacher: Tensor, degree: int = 2, c: float = 0.0) -> Tensor:
    """Features (N, C, H, W) of one H, W -> mean over samples of MMD^2; the teacher's own term has no gradient."""
    s, t = F.normalize(student.flatten(2), dim=2), F.normalize(teacher.flatten(2), dim=2)

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return ((x.unsqueeze(2) * y.unsqueeze(1)).sum(-1) + c).pow(degree).mean()

    return kernel(t, t).detach() + kernel(s, s) - 2 * kernel(s, t)


def nst_loop(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """The same by loops over the channels, over the valid positions (N, H, W) alone, over samples that have any."""
    values = []
    for n in range(student.shape[0]):
        if valid[n].any():
            s, t = ([row / row.norm() for row in x[n][:, valid[n]]] for x in (student, teacher))
            means = [torch.stack([torch.dot(a, b) ** 2 for a in x for b in y]).mean() for x, y in ((t, t), (s, s))]
            cross = torch.stack([torch.dot(a, b) ** 2 for a in s for b in t]).mean()
            values.append(means[0] + means[1] - 2 * cross)
    return torch.stack(values).mean()
