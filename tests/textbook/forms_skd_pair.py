"""Pair-wise distillation with the similarities of all pairs held at once, in the order of the publications."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def skd(student: Tensor, teacher: Tensor, cell: tuple[int, int] = (1, 1)) -> Tensor:
    """SKD's master branch: max pooling by cells, length detached and 1e-8 added, sum / nodes^2 / N."""
    maps = []
    for feature in (student, teacher):
        pooled = F.max_pool2d(feature, cell, stride=cell, padding=0, ceil_mode=True)
        length = pooled.pow(2).sum(1, keepdim=True).sqrt().detach() + 1e-8
        rows = (pooled / length).reshape(pooled.shape[0], pooled.shape[1], -1)
        maps.append(torch.einsum("icm,icn->imn", rows, rows))
    return (maps[0] - maps[1]).pow(2).sum() / maps[0].shape[-1] ** 2 / student.shape[0]


def cirkd(student: Tensor, teacher: Tensor, cell: tuple[int, int] = (2, 2)) -> Tensor:
    """CIRKD's port (and cvpr_19 at cell 1): the length takes part in the gradient; mean over everything."""
    maps = []
    for feature in (student, teacher):
        pooled = F.normalize(F.max_pool2d(feature, cell, stride=cell, padding=0, ceil_mode=True), dim=1).flatten(2)
        maps.append(pooled.transpose(1, 2) @ pooled)
    return (maps[0] - maps[1]).pow(2).mean()


def loop(student: Tensor, teacher: Tensor, cell: tuple[int, int], valid: Tensor) -> Tensor:
    """By loops over cells and pairs of them; a cell is the maximum over its valid pixels."""
    terms = []
    for n in range(student.shape[0]):
        nodes = []
        for y in range(0, student.shape[2], cell[0]):
            for x in range(0, student.shape[3], cell[1]):
                window = (slice(y, y + cell[0]), slice(x, x + cell[1]))
                inside = valid[n][window]
                if inside.any():
                    nodes.append([f[n][:, window[0], window[1]][:, inside].amax(1) for f in (student, teacher)])
        if not nodes:
            continue
        total = student.new_zeros(())
        for s_i, t_i in nodes:
            for s_j, t_j in nodes:
                cos_s, cos_t = F.cosine_similarity(s_i, s_j, dim=0), F.cosine_similarity(t_i, t_j, dim=0)
                total = total + (cos_s - cos_t) ** 2
        terms.append(total / len(nodes) ** 2)
    return torch.stack(terms).mean()
