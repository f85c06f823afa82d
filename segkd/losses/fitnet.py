"""Hint of FitNets: the student's regressed feature meets the teacher's (Romero et al., ICLR 2015, arXiv 1412.6550)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.losses.base import (
    COMPARED,
    LOSSES,
    DistillationLoss,
    Tensors,
    mean_over,
    no_autocast,
    same_shape,
    single,
    upcast,
    valid_mask,
)

NAME = "FitNet"


def hint(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """``mean over samples, channels and positions of (student - teacher)^2``.

    Args:
        student, teacher: features (N, C, H, W), one shape, the student's after its regressor; the teacher is detached.
        valid: (N, H, W), true where a position counts; None counts all. With no valid position the value is 0.

    Returns:
        A scalar of at least float32. It is 0 where both are equal.

    Raises:
        UserError: not four dimensions, unequal shapes, or a mask of another shape.
    """
    if student.dim() != 4:
        raise UserError(f"{NAME} takes features (N, C, H, W), got a student of shape {tuple(student.shape)}")
    same_shape(student, teacher, NAME)
    n, c, h, w = student.shape
    valid = valid_mask(valid, (n, h, w), NAME)
    with no_autocast(student):
        s, t = upcast(student), upcast(teacher.detach())
        if valid is None:
            return F.mse_loss(s, t)
        # selected before the square: a position left out is exactly 0 in value and gradient, even for inf or NaN
        difference = (s - t).masked_fill_(~valid[:, None], 0)
        return mean_over(difference.square().sum() / c, valid.sum())


@LOSSES.register("fitnet")
class FitNet(DistillationLoss):
    """``hint`` (equation 3 of the paper, there with factor 1/2 and summed); it has no constants.

    Taps: one hidden layer a side, the paper's choice is the middle one. The regressor is the bind's connector. For
    segmentation CIRKD takes the head's last feature with ``connector=dict(type=Conv1x1)`` (no bias, no norm) and
    weight 10, trained together with everything else; the paper trains student and regressor by the hint alone first
    (``first_stage=dict(...)`` and ``weight=0`` in the bind). RepDistiller's regressor has a normalisation and a ReLU
    behind its convolution. A batch repeated twice and a map tiled 2 x 2 give the same value.

    >>> import torch
    >>> feature = torch.randn(2, 8, 6, 10)
    >>> float(FitNet()(feature, feature))
    0.0
    """

    published_scale = {
        "repdistiller": "1",  # mean over N, C, H, W; its weight is 100 (CIFAR, second block)
        "cirkd": "1",  # the same; its weight is 10 (Cityscapes, head)
        "paper": "C * H * W / 2",  # sum over C, H, W / 2, mean over N; in a first stage alone, with weight 1
    }

    usual_rms = COMPARED

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
        """Features (N, C, H, W) of both sides -> scalar; ``label``, ``image`` and ``draw`` are not used."""
        return hint(single(student, NAME), single(teacher, NAME), valid)
