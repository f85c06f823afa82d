"""Plain reference forms of the losses: the formula as one would write it on a blackboard, in the published order.

They are slow, unsafe for extreme input and reduce as the named publication does. Tests compare segkd's forms with them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def kd_repdistiller(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(N, K, ...) logits -> T^2 * sum / N."""
    p_s = F.log_softmax(student / temperature, dim=1)
    p_t = F.softmax(teacher / temperature, dim=1)
    return F.kl_div(p_s, p_t, reduction="sum") * temperature**2 / student.shape[0]


def kd_cirkd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(N, K, H, W) logits, as rows of one pixel each -> T^2 * sum / (N * H * W)."""
    classes = student.shape[1]
    rows_s = student.permute(0, 2, 3, 1).contiguous().view(-1, classes)
    rows_t = teacher.permute(0, 2, 3, 1).contiguous().view(-1, classes)
    p_s = F.log_softmax(rows_s / temperature, dim=1)
    p_t = F.softmax(rows_t / temperature, dim=1)
    return F.kl_div(p_s, p_t, reduction="batchmean") * temperature**2


def kd_pixel_loop(student: Tensor, teacher: Tensor, temperature: float, valid: Tensor) -> Tensor:
    """The same by loops over the valid pixels of (N, K, H, W): sum_k p_t (log p_t - log p_s), averaged, times T^2."""
    terms = []
    for n, y, x in valid.nonzero().tolist():
        p_s = torch.softmax(student[n, :, y, x] / temperature, dim=0)
        p_t = torch.softmax(teacher[n, :, y, x] / temperature, dim=0)
        terms.append((p_t * (p_t.log() - p_s.log())).sum())
    return temperature**2 * torch.stack(terms).mean()


def cwd_cirkd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(N, C, H, W) -> T^2 * sum / (N * C), softmax over the positions of each channel."""
    n, c, h, w = student.shape
    p_s = torch.softmax(student.reshape(n, c, h * w) / temperature, dim=2)
    p_t = torch.softmax(teacher.reshape(n, c, h * w) / temperature, dim=2)
    return (p_t * (p_t.log() - p_s.log())).sum() * temperature**2 / (n * c)


def cwd_loop(student: Tensor, teacher: Tensor, temperature: float, valid: Tensor) -> Tensor:
    """The same by loops, over the valid positions alone, over samples that have any."""
    terms = []
    for n in range(student.shape[0]):
        for c in range(student.shape[1]):
            x_s, x_t = student[n, c][valid[n]], teacher[n, c][valid[n]]
            if x_s.numel():
                p_s, p_t = torch.softmax(x_s / temperature, 0), torch.softmax(x_t / temperature, 0)
                terms.append((p_t * (p_t.log() - p_s.log())).sum())
    return temperature**2 * torch.stack(terms).mean()


def at_repdistiller(student: Tensor, teacher: Tensor, p: int = 2) -> Tensor:
    """(N, C, H, W) of one H, W -> mean over samples and positions of the squared difference of attention maps."""
    a_s = F.normalize(student.pow(p).mean(1).reshape(student.shape[0], -1))
    a_t = F.normalize(teacher.pow(p).mean(1).reshape(teacher.shape[0], -1))
    return (a_s - a_t).pow(2).mean()


def at_matrices(student: Tensor, teacher: Tensor, p: float) -> Tensor:
    """Maps of unequal size: energies pooled by averaging matrices to the smaller height and width; sum, over N mean."""
    height = min(student.shape[2], teacher.shape[2])
    width = min(student.shape[3], teacher.shape[3])
    maps = []
    for feature in (student, teacher):
        energy = feature.abs().pow(p).sum(1)
        rows, columns = averaging(feature.shape[2], height), averaging(feature.shape[3], width)
        flat = (rows.to(energy) @ energy @ columns.to(energy).T).flatten(1)
        maps.append(flat / flat.pow(2).sum(1, keepdim=True).sqrt())
    return (maps[0] - maps[1]).pow(2).sum(1).mean()


def averaging(source: int, target: int) -> Tensor:
    """(target, source): row i averages the source cells that touch the i-th of ``target`` equal parts."""
    matrix = torch.zeros(target, source, dtype=torch.float64)
    for i in range(target):
        first, last = (i * source) // target, -((-(i + 1) * source) // target)
        matrix[i, first:last] = 1 / (last - first)
    return matrix
