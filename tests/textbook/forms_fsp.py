"""FSP as one would write it down, in the published order: all C1 x C2 products of two maps, averaged over positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def fsp(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Features of one H, W a side -> sum over neighbouring pairs of the mean over N, C1, C2 of squared differences."""
    pairs = zip(matrices(student), matrices(teacher), strict=True)
    return torch.stack([(g_s - g_t).pow(2).mean() for g_s, g_t in pairs]).sum()


def matrices(features: Sequence[Tensor]) -> list[Tensor]:
    """Neighbouring features -> (N, C1, C2) each."""
    return [
        (a.unsqueeze(2) * b.unsqueeze(1)).flatten(3).mean(-1) for a, b in zip(features[:-1], features[1:], strict=True)
    ]


def fsp_loop(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    """(N, C1, H, W), (N, C2, H, W) -> (N, C1, C2) by loops over the valid positions (N, H, W)."""
    rows = []
    for n in range(first.shape[0]):
        spots = valid[n].nonzero().tolist()
        products = [torch.outer(first[n, :, y, x], second[n, :, y, x]) for y, x in spots]
        rows.append(torch.stack(products).mean(0))
    return torch.stack(rows)
