"""Attention transfer from activations (Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928, section 3.1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.arguments import number
from segkd.errors import UserError
from segkd.losses.base import (
    LOSSES,
    DistillationLoss,
    Tensors,
    mean_over,
    no_autocast,
    resized_mask,
    upcast,
)

NAME = "AttentionTransfer"
FAINT = 1e-4  # features below it fade out: their gradient would be more than half precision holds
MAX_P = 4


def attention_transfer(student: Tensor, teacher: Tensor, p: float = 2.0, valid: Tensor | None = None) -> Tensor:
    """``mean over samples of sum over positions of (A(student) - A(teacher))^2`` (equation 2, there without a square).

    ``A(f) = e / ||e||_2`` with the energy ``e = mean over channels of |f|^p``, pooled to the common size (on each axis
    the smaller of both) by area average before it is normalised. Mean or sum over channels give the same A.

    Args:
        student, teacher: features (N, C, H, W), any C, H and W on either side; the teacher is detached.
        p: exponent, from 1 to 4; the gradients of greater ones do not fit half precision.
        valid: (N, h, w) of any size (brought to the common size, nearest): false positions have no energy on either
            side. A sample without any valid position is not counted; with none at all the value is 0.

    Returns:
        A scalar of at least float32, between 0 and 2. It is 0 where both attend alike, whatever their magnitude; a map
        whose energy is nowhere above ``1e-4^p`` fades out.

    Raises:
        UserError: not four dimensions, another number of samples, or p outside of 1 to 4.
    """
    if student.dim() != 4 or teacher.dim() != 4 or student.shape[0] != teacher.shape[0]:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise UserError(f"{NAME} takes features (N, C, H, W) with one N on both sides, got {shapes}")
    size = common_size(student.shape, teacher.shape)
    with no_autocast(student):
        mask = None if valid is None else resized_mask(valid, student.shape[0], size, NAME).flatten(1)
        a_s, a_t = attention(student, size, p, mask), attention(teacher.detach(), size, p, mask)
        total = (a_s - a_t).square().sum()
        return total / student.shape[0] if mask is None else mean_over(total, mask.any(1).sum())


def common_size(student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]) -> tuple[int, int]:
    """(H, W) where two maps meet: the smaller height and the smaller width."""
    return min(student_shape[-2], teacher_shape[-2]), min(student_shape[-1], teacher_shape[-1])


def attention(feature: Tensor, size: tuple[int, int], p: float = 2.0, mask: Tensor | None = None) -> Tensor:
    """(N, C, H, W) -> attention (N, h * w) of unit norm; a map without energy gives zeros, faint ones fade out."""
    energy = _energy(upcast(feature), p)
    if tuple(energy.shape[-2:]) != size:
        energy = F.adaptive_avg_pool2d(energy, size)
    energy = energy.flatten(1)
    if mask is not None:
        energy = energy.masked_fill(~mask, 0)
    # A does not change with the scale of e: a constant factor keeps the squares below from overflow and underflow
    energy = energy / energy.detach().amax(dim=1, keepdim=True).clamp_min(FAINT**p)
    norm: Tensor = torch.linalg.vector_norm(energy, dim=1, keepdim=True)
    return energy / norm.clamp_min(0.5)


def _energy(feature: Tensor, p: float) -> Tensor:
    """(N, C, H, W) -> mean over channels of |f|^p, (N, H, W)."""
    number(p, "p", NAME, least=1, most=MAX_P)
    power = feature.square() if p == 2 else feature.abs().pow(p)
    # sum, then divide the small map: the gradient of mean(1) would write a divided copy of the whole feature
    return power.sum(1) / feature.shape[1]


@LOSSES.register("at")
class AttentionTransfer(DistillationLoss):
    """``attention_transfer`` with its exponent; taps: one or several pairs of features, raw, without a connector.

    Published taps: the ends of the groups of residual blocks (the paper and RepDistiller, one pair for each); for
    segmentation the feature behind ASPP, before the classifier (CIRKD).

    Several pairs are averaged (publications add them up: multiply the weight by their number). RepDistiller weighs by
    1000, CIRKD by 10000, both on a mean over positions: ``published_scale`` converts. A batch repeated twice and a map
    tiled 2 x 2 give the same value. The paper takes the distance, the published code its square; so does this.

    >>> import torch
    >>> feature = torch.randn(2, 8, 6, 10)
    >>> float(AttentionTransfer()(feature, 3 * feature)) < 1e-6
    True
    """

    # A mean over positions as well, of maps of one H x W. Maps of two sizes RepDistiller pools before it takes their
    # energies, to a square of the smaller height, which fails or lies on maps that are not square; CIRKD's are equal.
    published_scale = {
        "repdistiller": "1 / (H * W)",  # 1000 becomes 1000 / (H * W)
        "cirkd": "1 / (H * W)",  # 10000 becomes 10000 / (H * W), 1.2 for its 64 x 128
    }

    raw_sizes = True
    any_channels = True

    def __init__(self, p: float = 2.0) -> None:
        super().__init__()
        self.p = number(p, "p", NAME, least=1, most=MAX_P)

    def forward(
        self,
        student: Tensors,
        teacher: Tensors,
        label: Tensor | None = None,
        *,
        image: Tensor | None = None,
        draw: Any = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Feature(s) (N, C, H, W) of both sides -> scalar; ``label``, ``image`` and ``draw`` are not used."""
        students = (student,) if isinstance(student, Tensor) else student
        teachers = (teacher,) if isinstance(teacher, Tensor) else teacher
        if len(students) != len(teachers):
            taps = f"{len(students)} and {len(teachers)}"
            raise UserError(f"{NAME} takes as many taps of the teacher as of the student, got {taps}")
        terms = [attention_transfer(s, t, self.p, valid) for s, t in zip(students, teachers, strict=True)]
        return torch.stack(terms).mean()

    def extra_repr(self) -> str:
        return f"p={self.p:g}"
