"""Variational information distillation (Ahn et al., CVPR 2019, arXiv 1904.05835): the variational lower bound
of the mutual information, by a Gaussian of one variance per channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.arguments import integer, positive
from segkd.errors import UserError
from segkd.losses.base import (
    COMPARED,
    LOSSES,
    DistillationLoss,
    Tensors,
    cast_to_part,
    mean_over,
    no_autocast,
    same_shape,
    single,
    upcast,
    valid_mask,
)

NAME = "VID"


def variational_information(mean: Tensor, teacher: Tensor, variance: Tensor, valid: Tensor | None = None) -> Tensor:
    """``mean over samples, channels and positions of ((teacher - mean)^2 / variance + log variance) / 2``.

    The negative log likelihood of the teacher's feature under a Gaussian of one variance per channel (equations 5 and
    6), without its constant ``log(2 pi) / 2``.

    Args:
        mean: the feature that the student predicts (N, C, H, W).
        teacher: of the same shape; it is detached.
        variance: (C,), above 0.
        valid: (N, H, W), true where a position counts; None counts all. With no valid position the value is 0.

    Returns:
        A scalar of at least float32; negative where a small variance fits. For given differences the least over the
        variance is half of ``1 + log(mean squared difference)``, averaged over channels.

    Raises:
        UserError: not four dimensions, unequal shapes, a variance or mask of another shape.
    """
    if mean.dim() != 4:
        raise UserError(f"{NAME} takes features (N, C, H, W), got a student of shape {tuple(mean.shape)}")
    same_shape(mean, teacher, NAME)
    n, c, h, w = mean.shape
    if tuple(variance.shape) != (c,):
        raise UserError(f"{NAME} takes one variance per channel, ({c},), got {tuple(variance.shape)}")
    valid = valid_mask(valid, (n, h, w), NAME)
    with no_autocast(mean):
        difference = upcast(mean) - upcast(teacher.detach())
        var = upcast(variance)
        if valid is None:
            count = torch.full((), n * h * w, dtype=difference.dtype, device=difference.device)
        else:
            difference = difference.masked_fill_(~valid[:, None], 0)
            count = valid.sum().to(difference.dtype)
        # squares are summed per channel before the division: the variance never meets the whole map
        squares = difference.square().sum((0, 2, 3))
        total = 0.5 * (squares / var + count * var.log()).mean()
        return total / count if valid is None else mean_over(total, count)


@LOSSES.register("vid")
class VID(DistillationLoss):
    """``variational_information`` with its regressor and variances.

    The paper lowers the negative log likelihood of the teacher's feature given the student's, a lower bound of their
    mutual information, under a Gaussian with one variance per channel.

    The student's feature gives the mean through three 1 x 1 convolutions without bias, ReLU between them (C_s -> mid ->
    mid -> C_t, from torch's default initialisation); ``variance = softplus(log_scale) + eps`` per channel of the
    teacher. All of it belongs to this loss and trains with the student; ``log_scale`` is kept from weight decay, which
    would pull the variance to softplus(0) = 0.69. It starts at the inverse softplus of ``init_pred_var - eps``, so that
    the variance is ``init_pred_var``. The softplus is the safe one: the published log(1 + exp) overflows from 89 on.

    Taps: one feature a side, no connector; a bind for each stage, RepDistiller takes all (weight 1 each, which is this
    reduction's). No publication gives weights for segmentation. Unequal sizes meet as the bind says, on each axis;
    RepDistiller pools the higher map to a square of the lower one's height, which fails on maps that are not square. A
    batch repeated twice and a map tiled 2 x 2 give the same value. The value may be negative, and is not 0 for student
    = teacher.

    Args:
        num_mid_channel: width inside the regressor; None = the teacher's channels.
        init_pred_var: variance at the start.
        eps: least variance.

    >>> import torch
    >>> loss = VID()
    >>> loss.prepare([(2, 4, 6, 10)], [(2, 8, 6, 10)], [])
    >>> bool(loss(torch.randn(2, 4, 6, 10), torch.randn(2, 8, 6, 10)).isfinite())
    True
    """

    # C, H and W are the teacher's.
    published_scale = {
        "repdistiller": "1",  # mean over everything; its weight is 1, a term for each stage
        "paper": "C * H * W",  # sum over C, H, W, mean over samples, up to a constant
    }

    any_channels = True
    usual_rms = COMPARED
    no_weight_decay = ("log_scale",)

    def __init__(self, num_mid_channel: int | None = None, init_pred_var: float = 5.0, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_mid_channel = None if num_mid_channel is None else integer(num_mid_channel, "num_mid_channel", NAME)
        self.init_pred_var = positive(init_pred_var, "init_pred_var", NAME)
        self.eps = positive(eps, "eps", NAME)
        if not self.init_pred_var > self.eps:
            raise UserError(f"{NAME}: init_pred_var must be above eps = {self.eps:g}, got {self.init_pred_var:g}")
        self.in_channels = 0
        self.regressor: nn.Sequential | None = None
        self.log_scale: nn.Parameter | None = None

    def prepare(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        teacher_modules: Sequence[nn.Module],
    ) -> None:
        """Make the regressor and the variances for features of these shapes (N, C, H, W)."""
        if len(student_shapes) != 1:
            raise UserError(f"{NAME} takes one tap a side, got {len(student_shapes)}")
        if len(student_shapes[0]) != 4 or len(teacher_shapes[0]) != 4:
            shapes = f"{tuple(student_shapes[0])} and {tuple(teacher_shapes[0])}"
            raise UserError(f"{NAME} takes features (N, C, H, W), but the tapped ones are {shapes}")
        student, teacher = student_shapes[0][1], teacher_shapes[0][1]
        middle = self.num_mid_channel or teacher
        widths = (student, middle, middle, teacher)
        self.in_channels = student
        with torch.random.fork_rng(devices=[]):  # what else the run draws stays as it is without this loss
            first, second, third = (
                nn.Conv2d(*pair, 1, bias=False) for pair in zip(widths[:-1], widths[1:], strict=True)
            )
        self.regressor = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        start = self.init_pred_var - self.eps
        # inverse softplus, log(exp(x) - 1), for any x above 0
        self.log_scale = nn.Parameter(torch.full((teacher,), start + math.log(-math.expm1(-start))))

    def variance(self) -> Tensor:
        """(C,) of the teacher's channels, at least ``eps``."""
        if self.log_scale is None:
            raise UserError(f"{NAME} has no variances yet; call prepare(...) before its first use (a bind does)")
        return F.softplus(upcast(self.log_scale)) + self.eps

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
        """Features (N, C, H, W), any C on either side -> scalar; ``label``, ``image`` and ``draw`` are not used."""
        s, t = single(student, NAME), single(teacher, NAME)
        if self.regressor is None:
            raise UserError(f"{NAME} has no regressor yet; call prepare(...) before its first use (a bind does)")
        if s.dim() != 4 or s.shape[1] != self.in_channels:
            made_for = f"(N, {self.in_channels}, H, W)"
            raise UserError(f"{NAME} was made for a student's feature {made_for}, got {tuple(s.shape)}")
        with no_autocast(s):
            s = cast_to_part(self.regressor, s)
            if valid is not None:
                # what does not count must not meet the weights: inf or NaN would reach their gradients
                mask = valid_mask(valid, (s.shape[0], *s.shape[2:]), NAME)
                assert mask is not None
                s = s.masked_fill(~mask[:, None], 0)
            return variational_information(self.regressor(s), t, self.variance(), valid)

    def extra_repr(self) -> str:
        return f"init_pred_var={self.init_pred_var:g}, eps={self.eps:g}"
