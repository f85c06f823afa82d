"""Omni-contrast in the published order, for maps that its cells and patches divide, and by loops for any."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def omni_contrast(student: Tensor, teacher: Tensor, temperature: float, groups: int, pool: int, patch: int) -> Tensor:
    """Sum of cross entropies (positive first, then the negatives) / cells of a map / N."""
    sides = []
    for feature in (student, teacher):
        x = F.max_pool2d(feature, pool) if pool else feature
        n, c, h, w = x.shape
        x = x.contiguous().view(n, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 1, 3, 5)
        x = x.reshape(n * (h // patch) * (w // patch), groups, c // groups, patch * patch)
        sides.append(x.permute(0, 3, 1, 2).reshape(x.shape[0], patch * patch * groups, c // groups))
    similarity = -torch.cdist(sides[0], sides[1], p=1)
    count, length = similarity.shape[:2]
    own = torch.eye(length, dtype=torch.bool).expand(count, -1, -1)
    group = torch.arange(groups).repeat(patch * patch)
    other = (group[:, None] != group[None]).expand(count, -1, -1)
    positive = similarity[own].view(count * length, 1)
    negative = similarity[other].view(count * length, -1)
    logits = torch.cat([positive, negative], dim=1) / temperature
    target = torch.zeros(len(logits), dtype=torch.long)
    return F.cross_entropy(logits, target, reduction="sum") / (h * w) / n


def loop(
    student: Tensor, teacher: Tensor, temperature: float, groups: int, pool: int, patch: int, valid: Tensor
) -> Tensor:
    """Mean over cells with a valid pixel, and groups, by loops; cells and patches are cut off at the border."""
    terms = []
    channels = student.shape[1] // groups
    for n in range(student.shape[0]):
        cells: dict[tuple[int, int], list[Tensor]] = {}
        for y in range(0, student.shape[2], pool):
            for x in range(0, student.shape[3], pool):
                inside = valid[n, y : y + pool, x : x + pool]
                if inside.any():
                    found = [f[n, :, y : y + pool, x : x + pool][:, inside].amax(1) for f in (student, teacher)]
                    cells[y // pool, x // pool] = [f.view(groups, channels) for f in found]
        for (y, x), (s, t) in cells.items():
            for m in range(groups):
                own = torch.exp(-(s[m] - t[m]).abs().sum() / temperature)
                total = own
                for (v, u), (_, other) in cells.items():
                    if (v // patch, u // patch) == (y // patch, x // patch):
                        apart = [k for k in range(groups) if k != m]
                        total = total + torch.exp(-(s[m] - other[apart]).abs().sum(1) / temperature).sum()
                terms.append(-(own / total).log())
    return torch.stack(terms).mean()
