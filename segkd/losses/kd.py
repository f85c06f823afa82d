"""Pixel-wise knowledge distillation of class distributions (Hinton et al. 2015, arXiv 1503.02531, section 2)."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from segkd.arguments import positive
from segkd.errors import UserError
from segkd.losses.base import (
    LOSSES,
    SOFTMAX,
    DistillationLoss,
    Tensors,
    mean_over,
    no_autocast,
    published_factor,
    raise_precision,
    same_shape,
    single,
    valid_mask,
)

NAME = "PixelwiseKD"


def pixelwise_kd(student: Tensor, teacher: Tensor, temperature: float = 1.0, valid: Tensor | None = None) -> Tensor:
    """``T^2 * mean over pixels of KL(softmax(teacher / T) || softmax(student / T))``.

    Args:
        student, teacher: raw logits (N, K, H, W) or (N, K), one shape; the teacher is detached.
        temperature: T. The factor T^2 keeps the gradient's size, and so the weight, independent of T.
        valid: (N, H, W) or (N,), true where a pixel counts; None counts all. With no valid pixel the value is 0.

    Returns:
        A scalar of at least float32. It is 0 where both give the same distribution.

    Raises:
        UserError: fewer than two dimensions, unequal shapes, a mask of another shape, or a temperature not above 0.
    """
    positive(temperature, "temperature", NAME)
    if student.dim() < 2:
        raise UserError(f"{NAME} takes logits (N, K, H, W) or (N, K), got a student of shape {tuple(student.shape)}")
    same_shape(student, teacher, NAME)
    positions = (student.shape[0], *student.shape[2:])
    valid = valid_mask(valid, positions, NAME)
    with no_autocast(student):
        s, t = raise_precision(student), raise_precision(teacher.detach())
        if valid is not None:
            # equal (uniform) distributions at the pixels left out: exactly 0 in value and gradient, even for inf or NaN
            s, t = s.masked_fill(~valid[:, None], 0), t.masked_fill(~valid[:, None], 0)
        total = temperature**2 * _kl_sum(s, t, temperature)
        return total / math.prod(positions) if valid is None else mean_over(total, valid.sum())


def _kl_sum(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Sum over everything of the KL of softmax over the classes (dim 1), all in log space."""
    # In channels_last, torch's softmax over dim 1 (or over a last dimension of few classes) is 2.5 times slower.
    student, teacher = student.contiguous(), teacher.contiguous()
    log_s = F.log_softmax(student / temperature, dim=1)
    log_t = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(log_s, log_t, reduction="sum", log_target=True)


def published_scale(
    N: int,  # noqa: N803
    C: int,  # noqa: N803
    K: int,  # noqa: N803
    H: int,  # noqa: N803
    W: int,  # noqa: N803
    temperature: float = 1.0,
    published: str = "repdistiller",
) -> float:
    """``published value = published_scale(...) * pixelwise_kd(...)`` on N x K x H x W logits (H = W = 1 for (N, K)).

    ============ ========================================= ============= ==========================
    published    its reduction                             scale         its weight becomes here
    ============ ========================================= ============= ==========================
    repdistiller T^2 * sum / N                             H * W         0.9 at T = 4, H = W = 1
    mmrazor      T^2 * sum / N ("batchmean", its default)  H * W         its weight * H * W
    torchdistill sum / N, without T^2 (``alpha=None``)     H * W / T^2   its weight * H * W / T^2
    cirkd        T^2 * sum / (N * H * W)                   1             1 at T = 1
    skd          cross entropy, sum / (H * W), T = 1       N             10 * N
    ifvd         mean over N, K, H, W, T = 1               1 / K         10 / K
    skd_cvpr_19  mean over N, K, H, W, T = 1               1 / K         its weight / K
    ============ ========================================= ============= ==========================

    SKD's cross entropy also holds the teacher's entropy: its value is ``N * (pixelwise_kd + mean entropy)``, while its
    gradient is the scale times this one's.
    """
    pixels = float(H * W)
    factors = {
        "repdistiller": pixels,
        "mmrazor": pixels,
        "torchdistill": pixels / temperature**2,
        "cirkd": 1.0,
        "skd": float(N),
        "ifvd": 1 / K,
        "skd_cvpr_19": 1 / K,
    }
    return published_factor(factors, published, NAME)


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
