"""Intra-class feature variation as one would write it down: a map of prototypes, made class by class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def ifvd(student: Tensor, teacher: Tensor, label: Tensor, classes: int) -> Tensor:
    """The published order: masks and every pixel's prototype in maps of the feature's size; no class, no change.

    Mean over all pixels, those of no class (which add 0) as well.
    """
    maps = []
    for feature in (student, teacher):
        prototype = feature.clone()
        for k in range(classes):
            inside = (label[:, None].expand_as(feature) == k).to(feature.dtype)
            size = inside.flatten(2).sum(2)[..., None, None]
            mean = (feature * inside).flatten(2).sum(2)[..., None, None] / (size + 1e-6)
            prototype = (1 - inside) * prototype + inside * mean
        maps.append(F.cosine_similarity(feature, prototype, dim=1))
    return (maps[0] - maps[1]).pow(2).mean()


def loop(student: Tensor, teacher: Tensor, label: Tensor, counted: Tensor) -> Tensor:
    """By loops over images and counted pixels, whose mean is taken."""
    terms = []
    for n, y, x in counted.nonzero().tolist():
        same = counted[n] & (label[n] == label[n, y, x])
        cosines = [F.cosine_similarity(f[n, :, y, x], f[n][:, same].mean(1), dim=0) for f in (student, teacher)]
        terms.append((cosines[0] - cosines[1]) ** 2)
    return torch.stack(terms).mean()
