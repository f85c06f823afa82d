"""Plain reference forms of the FitNets hint."""

from __future__ import annotations

import torch
from torch import Tensor


def hint_published(student: Tensor, teacher: Tensor) -> Tensor:
    """(N, C, H, W) -> mean of all squared differences."""
    return ((student - teacher) ** 2).mean()


def hint_loop(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """The same by loops over the valid positions: mean over channels of squares, averaged over positions."""
    terms = [(student[n, :, y, x] - teacher[n, :, y, x]).pow(2).mean() for n, y, x in valid.nonzero().tolist()]
    return torch.stack(terms).mean()


def hint_paper(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared norm of a sample's difference (equation 3), averaged over samples."""
    return torch.stack([0.5 * (s - t).norm() ** 2 for s, t in zip(student, teacher, strict=True)]).mean()
