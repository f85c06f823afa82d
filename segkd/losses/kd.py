"""Pixel-wise knowledge distillation of class distributions (Hinton et al. 2015, arXiv 1503.02531, section 2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from segkd.arguments import positive
from segkd.losses.base import (
    LOSSES,
    SOFTMAX,
    DistillationLoss,
    Tensors,
    check_logits,
    mean_over,
    no_autocast,
    single,
    valid_mask,
)
from segkd.losses.blocks import blockwise_sum, zeroed

NAME = "PixelwiseKD"


def pixelwise_kd(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    valid: Tensor | None = None,
    change: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """``T^2 * mean over pixels of KL(softmax(teacher / T) || softmax(student / T))``.

    Args:
        student, teacher: raw logits (N, K, H, W) or (N, K), one shape; the teacher is detached.
        temperature: T. The factor T^2 keeps the gradient's size, and so the weight, independent of T.
        valid: (N, H, W) or (N,), true where a pixel counts; None counts all. With no valid pixel the value is 0.
        change: of both sides' logits beforehand, pixel by pixel: (n, K, p) of a part of them -> the same shape.

    Returns:
        A scalar of at least float32. It is 0 where both give the same distribution.

    Raises:
        UserError: fewer than two dimensions, unequal shapes, a mask of another shape, or a temperature not above 0.
    """
    positive(temperature, "temperature", NAME)
    check_logits(student, teacher, NAME)
    positions = (student.shape[0], *student.shape[2:])
    valid = valid_mask(valid, positions, NAME)

    def of_block(s: Tensor, t: Tensor, counted: Tensor | None) -> Tensor:
        if counted is not None:
            # equal (uniform) distributions at the pixels left out: exactly 0 in value and gradient, even for inf or NaN
            s, t = zeroed(s, counted), zeroed(t, counted)
        if change is not None:
            s, t = change(s), change(t)
        return _kl_sum(s, t, temperature)

    with no_autocast(student):
        total = temperature**2 * blockwise_sum(of_block, student, teacher, valid)
        return total / math.prod(positions) if valid is None else mean_over(total, valid.sum())


def _kl_sum(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Sum over everything of the KL of softmax over the classes (dim 1), all in log space."""
    if temperature != 1:
        student, teacher = student / temperature, teacher / temperature
    return F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="sum", log_target=True)


@LOSSES.register("kd")
class PixelwiseKD(DistillationLoss):
    """``pixelwise_kd`` with its temperature; taps: the logits of both networks, before they are upsampled.

    T = 1 (the default) with weight 1 is what CIRKD uses on Cityscapes. A batch repeated twice and a map tiled 2 x 2
    give the same value.

    >>> import torch
    >>> logits = torch.randn(2, 19, 8, 16)
    >>> float(PixelwiseKD(temperature=4.0)(logits, logits))
    0.0
    """

    published_scale = {
        "repdistiller": "H * W",  # T^2 * sum / N: its 0.9 at T = 4 is for H = W = 1
        "mmrazor": "H * W",  # the same ("batchmean", its default)
        "torchdistill": "H * W / T**2",  # sum / N, without T^2 (alpha=None)
        "cirkd": "1",  # T^2 * sum / (N * H * W); its weight is 1 at T = 1
        "skd": "N",  # cross entropy at T = 1, sum / (H * W): N * (this + the teacher's mean entropy); 10 becomes 10 * N
        "ifvd": "1 / K",  # mean over N, K, H, W at T = 1; 10 becomes 10 / K
        "skd_cvpr_19": "1 / K",  # the same
    }

    usual_rms = SOFTMAX

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = positive(temperature, "temperature", NAME)

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
        """Logits (N, K, H, W) or (N, K) of both sides -> scalar; ``label``, ``image`` and ``draw`` are not used."""
        return pixelwise_kd(single(student, NAME), single(teacher, NAME), self.temperature, valid)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}"
