"""CRD as one would write it down, in the published order: every negative gathered, quotients, then logarithms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-7


def embed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(M, C) -> (M, D) of unit length."""
    y = F.linear(x, weight, bias)
    return y / y.pow(2).sum(1, keepdim=True).sqrt()


def scores(anchors: Tensor, bank: Tensor, slots: Tensor, temperature: float = 0.07) -> Tensor:
    """(M, D), (n, D), (M, 1 + K) -> exp of the cosines over the temperature, (M, 1 + K)."""
    gathered = bank.index_select(0, slots.reshape(-1)).view(*slots.shape, -1)
    return torch.exp(torch.bmm(gathered, anchors[:, :, None])[..., 0] / temperature)


def contrast(likelihood: Tensor, slots: int) -> Tensor:
    """exp(...) / Z of the positive and m negatives, (M, 1 + m) -> mean over samples."""
    m = likelihood.shape[1] - 1
    noise = m / slots
    positive = torch.log(likelihood[:, 0] / (likelihood[:, 0] + noise + EPS))
    negative = torch.log(noise / (likelihood[:, 1:] + noise + EPS))
    return -(positive.sum() + negative.sum()) / likelihood.shape[0]


def crd(
    student: Tensor,
    teacher: Tensor,
    student_bank: Tensor,
    teacher_bank: Tensor,
    slots: Tensor,
    temperature: float = 0.07,
) -> Tensor:
    """Embeddings (M, D), banks (n, D), slots (M, 1 + m) -> the first step's loss, in which Z is estimated."""
    value = student.new_zeros(())
    for anchors, bank in ((student, teacher_bank), (teacher, student_bank)):
        score = scores(anchors, bank, slots, temperature)
        value = value + contrast(score / (score.detach().mean() * len(bank)), len(bank))
    return value


def updated(bank: Tensor, rows: Tensor, slots: Tensor, momentum: float = 0.5) -> Tensor:
    """The bank after a step."""
    after = bank.clone()
    moved = momentum * bank[slots] + (1 - momentum) * rows
    after[slots] = moved / moved.norm(dim=1, keepdim=True)
    return after
