"""CIRKD as one would write it down, in the published order: whole matrices of similarity, and lists for queues."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def minibatch_pixel(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """(N, C, H, W) -> mean over pairs of images of the mean over rows of the KL."""
    n = student.shape[0]
    s, t = (F.normalize(x, dim=1).flatten(2).transpose(1, 2) for x in (student, teacher))
    value = student.new_zeros(())
    for i in range(n):
        for j in range(n):
            log_s = F.log_softmax(s[i] @ s[j].T / temperature, dim=1)
            p_t = F.softmax(t[i] @ t[j].T / temperature, dim=1)
            value = value + F.kl_div(log_s, p_t, reduction="batchmean")
    return value / n**2


def minibatch_pixel_masked(student: Tensor, teacher: Tensor, valid: Tensor, temperature: float = 0.1) -> Tensor:
    """The same by loops over the valid pixels (N, H, W), over images that have any."""
    s = [F.normalize(x[:, v].T, dim=1) for x, v in zip(student, valid, strict=True) if v.any()]
    t = [F.normalize(x[:, v].T, dim=1) for x, v in zip(teacher, valid, strict=True) if v.any()]
    terms = []
    for j in range(len(s)):
        for i in range(len(s)):
            for pixel in range(len(s[i])):
                p_s = torch.softmax(s[j] @ s[i][pixel] / temperature, 0)
                p_t = torch.softmax(t[j] @ t[i][pixel] / temperature, 0)
                terms.append((p_t * (p_t.log() - p_s.log())).sum())
    return torch.stack(terms).mean()


def project(student: Tensor, first: Tensor, scale: Tensor, shift: Tensor, last: Tensor) -> Tensor:
    """Convolution, normalisation over the batch, ReLU, convolution."""
    x = F.conv2d(student, first)
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0, keepdim=True)
    x = (x - mean) / (variance + 1e-5).sqrt() * scale[:, None, None] + shift[:, None, None]
    return F.conv2d(x.relu(), last)


def memory_contrast(
    projected: Tensor, teacher: Tensor, counted: Tensor, memory: Tensor, temperature: float = 0.1, kd: float = 1.0
) -> Tensor:
    """Features (N, D, H, W), which pixels count (N, H, W), memory (E, D) -> mean over those pixels of the KL."""
    s, t = (F.normalize(x, dim=1).permute(0, 2, 3, 1)[counted] for x in (projected, teacher))
    log_s = F.log_softmax(s @ memory.T / temperature / kd, dim=1)
    p_t = F.softmax(t @ memory.T / temperature / kd, dim=1)
    return F.kl_div(log_s, p_t, reduction="batchmean") * kd**2


def region_means(teacher: Tensor, label: Tensor, ignore_index: int = 255) -> tuple[list[Tensor], list[int]]:
    """Unit means of unit features of each class in each image, and the classes."""
    unit, means, classes = F.normalize(teacher, dim=1), [], []
    for n in range(len(teacher)):
        for c in sorted(set(label[n].flatten().tolist()) - {ignore_index}):
            means.append(F.normalize(unit[n][:, label[n] == c].mean(1), dim=0))
            classes.append(c)
    return means, classes
