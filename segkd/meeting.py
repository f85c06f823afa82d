"""How a student's and a teacher's features meet: one size, one label map beside them, their scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Meeting:
    """The shapes of one pair of taps: as tapped, and as they enter the loss."""

    student: str
    teacher: str
    student_raw: tuple[int, ...]
    teacher_raw: tuple[int, ...]
    student_met: tuple[int, ...]
    teacher_met: tuple[int, ...]


def one_or_all(features: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
    """What a loss gets: the tensor of a bind with one tap, else a tuple."""
    return features[0] if len(features) == 1 else tuple(features)


def root_mean_square(features: Sequence[Tensor]) -> Tensor:
    """The root mean square of all numbers of several tensors together, in float64."""
    norms = [torch.linalg.vector_norm(x.detach(), dtype=torch.float64) for x in features]
    return torch.stack(norms).square().sum().div(sum(x.numel() for x in features)).sqrt()


def resize_feature(x: Tensor, size: Sequence[int]) -> Tensor:
    """(N, C, h, w) -> (N, C, H, W): area average where both axes shrink or stay, else bilinear."""
    height, width = x.shape[-2:]
    if (height, width) == tuple(size):
        return x
    if size[0] <= height and size[1] <= width:
        return F.adaptive_avg_pool2d(x, (size[0], size[1]))
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def resize_label(label: Tensor, size: Sequence[int]) -> Tensor:
    """(N, H, W) int64 -> (N, h, w), nearest-exact, so that no class is invented."""
    if tuple(label.shape[-2:]) == tuple(size):
        return label
    return F.interpolate(label[:, None].double(), size=tuple(size), mode="nearest-exact")[:, 0].long()
