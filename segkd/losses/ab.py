"""Distillation of activation boundaries (Heo et al., AAAI 2019, arXiv 1811.03233): the piecewise
differentiable approximation of the paper's activation transfer loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.arguments import positive
from segkd.errors import UserError
from segkd.losses.base import (
    LOSSES,
    DistillationLoss,
    Tensors,
    mean_over,
    no_autocast,
    resized_mask,
    same_shape,
    upcast,
    valid_mask,
)

NAME = "ActivationBoundaries"


def activation_boundaries(student: Tensor, teacher: Tensor, margin: float = 1.0, valid: Tensor | None = None) -> Tensor:
    """``mean over samples, channels and positions of max(0, margin - z * student)^2`` (equation 7, there a sum).

    ``z = 1`` where the teacher's response is above 0, else -1.

    Args:
        student, teacher: responses before the ReLU (N, C, H, W), one shape; the teacher is detached.
        margin: how far on the teacher's side of its boundary a student's response costs nothing any more.
        valid: (N, H, W), true where a position counts; None counts all. With no valid position the value is 0.

    Returns:
        A scalar of at least float32. It is 0 where every response lies on the teacher's side, ``margin`` away from 0;
        so for student = teacher only if the teacher's responses do.

    Raises:
        UserError: not four dimensions, unequal shapes, a mask of another shape, or a margin that is not above 0.
    """
    positive(margin, "margin", NAME)
    if student.dim() != 4:
        raise UserError(f"{NAME} takes responses (N, C, H, W), got a student of shape {tuple(student.shape)}")
    same_shape(student, teacher, NAME)
    n, c, h, w = student.shape
    valid = valid_mask(valid, (n, h, w), NAME)
    with no_autocast(student):
        s = upcast(student)
        side = (teacher.detach() > 0).to(s.dtype).mul_(2).sub_(1)
        # the nearest response that costs nothing. Where it moves with the student the difference is 0, so the gradient
        # is that of the hinge, and the graph keeps this one map
        nearest = (side * s.detach()).clamp_min_(margin).mul_(side)
        if valid is None:
            return F.mse_loss(s, nearest)
        # filled before the square: a position left out is exactly 0 in value and gradient, even for inf or NaN
        difference = (s - nearest).masked_fill_(~valid[:, None], 0)
        return mean_over(difference.square().sum() / c, valid.sum())


@LOSSES.register("ab")
class ActivationBoundaries(DistillationLoss):
    """``activation_boundaries`` with its margin (the paper's differentiable alternative to its transfer loss).

    Taps: one or several pairs of responses BEFORE their ReLU on both sides (``stage3.relu@input``); behind a ReLU the
    student cannot get below 0 and the value keeps a floor of ``margin^2`` where the teacher is silent. Several pairs
    are averaged, see ``published_scale``. Connector: ``dict(type=Conv1x1, norm=True)``. The published sum over a whole
    map grows with the crop; this is its mean, whose weight becomes that scale (1 published, at the ends of the groups
    of residual blocks). No publication gives weights for segmentation.

    It is published as an initialisation: a first stage (30 epochs) by this term alone, nothing of it later (in the bind
    ``first_stage=dict(steps=..., optimizer=...)``, ``weight=0``); there the author's teacher normalises by batch
    statistics, ours is in eval as anywhere else. A batch repeated twice and a map tiled 2 x 2 give the same value.

    >>> import torch
    >>> teacher = torch.tensor([0.1, -0.1]).view(1, 1, 1, 2)
    >>> float(ActivationBoundaries()(20 * teacher, teacher)), float(ActivationBoundaries()(-10 * teacher, teacher))
    (0.0, 4.0)
    """

    # The weighted sum over layers: a layer i before the last weighs 2^-i, and C * H * W halves from stage to stage of
    # the usual networks, so that all layers' means count alike, as here. C, H and W are the last layer's. A bind of
    # another layer alone has the weight 2^-i * 3 / 1000 * C * H * W.
    published_scale = {
        "repdistiller": "3 / 1000 * taps * C * H * W",  # sum / N * 3 / 1000; its weight is 1
        "author": "3 / 1000 * taps * C * H * W",
    }

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = positive(margin, "margin", NAME)

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
        """Response(s) (N, C, H, W) of both sides -> scalar; ``label``, ``image`` and ``draw`` are not used.

        ``valid`` (N, H, W) is of the first tap's size; for other sizes it is resized, nearest-exact.
        """
        students = (student,) if isinstance(student, Tensor) else student
        teachers = (teacher,) if isinstance(teacher, Tensor) else teacher
        if len(students) != len(teachers) or not students:
            taps = f"{len(students)} and {len(teachers)}"
            raise UserError(f"{NAME} takes as many taps of the teacher as of the student, got {taps}")
        if valid is not None:
            valid = valid_mask(valid, (students[0].shape[0], *students[0].shape[2:]), NAME)
        terms = [
            activation_boundaries(
                s, t, self.margin, None if valid is None else resized_mask(valid, s.shape[0], s.shape[2:], NAME)
            )
            for s, t in zip(students, teachers, strict=True)
        ]
        return torch.stack(terms).mean()

    def extra_repr(self) -> str:
        return f"margin={self.margin:g}"
