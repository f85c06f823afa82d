"""Channel-wise knowledge distillation for dense prediction (Shu et al., ICCV 2021, arXiv 2011.13256): the KL divergence
of channels normalised by a softmax over positions."""

from __future__ import annotations

from typing import Any

import torch
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
    same_shape,
    single,
    valid_mask,
)
from segkd.losses.blocks import CHANNELS, blockwise_sum, zeroed

NAME = "ChannelWise"


def channel_wise(student: Tensor, teacher: Tensor, temperature: float = 4.0, valid: Tensor | None = None) -> Tensor:
    """``T^2 * mean over samples and channels of KL(p(teacher) || p(student))`` (equation 4).

    ``p(x) = softmax over positions of x / T``.

    Args:
        student, teacher: logits or features (N, C, H, W), one shape; the teacher is detached.
        temperature: T.
        valid: (N, H, W), true where a position takes part in the softmax; None takes all. A sample without any valid
            position is not counted; with none at all the value is 0.

    Returns:
        A scalar of at least float32. It is 0 where the maps differ by a constant per sample and channel.

    Raises:
        UserError: not four dimensions, unequal shapes, a mask of another shape, or a temperature that is not above 0.
    """
    if student.dim() != 4:
        raise UserError(f"{NAME} takes maps (N, C, H, W), got a student of shape {tuple(student.shape)}")
    positive(temperature, "temperature", NAME)
    same_shape(student, teacher, NAME)
    n, c, h, w = student.shape
    valid = valid_mask(valid, (n, h, w), NAME)

    def of_block(s: Tensor, t: Tensor, counted: Tensor | None) -> Tensor:
        log_s, log_t = _log_density(s, temperature, counted), _log_density(t, temperature, counted)
        return F.kl_div(log_s, log_t, reduction="sum", log_target=True)

    with no_autocast(student):
        total = temperature**2 / c * blockwise_sum(of_block, student, teacher, valid, along=CHANNELS)
        return total / n if valid is None else mean_over(total, valid.flatten(1).any(1).sum())


def _log_density(x: Tensor, temperature: float, valid: Tensor | None) -> Tensor:
    """(n, c, P) -> log softmax over the valid ones (n, P) of the P positions of x / T."""
    if valid is None:
        return F.log_softmax(x / temperature, dim=-1)
    # a huge finite number, not -inf: probability exactly 0, and 0 * (log p - log q) stays 0 instead of NaN
    left_out = x.new_zeros(valid.shape).masked_fill_(~valid, torch.finfo(x.dtype).min / 2)
    return F.log_softmax(zeroed(x, valid) / temperature + left_out[:, None], dim=-1)


@LOSSES.register("cwd")
class ChannelWise(DistillationLoss):
    """``channel_wise`` with its temperature; taps: logits, or a deep feature behind a ``Conv1x1`` connector.

    Published for Cityscapes: T = 4 with weight 3 on logits and 50 on the head's last feature (the authors; CIRKD takes
    both, beside KD 1 and an adversarial 0.001; for SegFormer 0.3 and 5), T = 1 with weight 5 on logits (mmrazor). A
    batch repeated twice and a map tiled 2 x 2 give the same value: tiling divides every probability of both sides by 4,
    and the KL sees only their ratio.

    >>> import torch
    >>> feature = torch.randn(2, 8, 6, 10)
    >>> float(ChannelWise()(feature, feature))
    0.0
    """

    published_scale = {"cirkd": "1", "mmrazor": "1"}  # both: T^2 * sum / (N * C)

    usual_rms = SOFTMAX

    def __init__(self, temperature: float = 4.0) -> None:
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
        """Maps (N, C, H, W) of both sides -> scalar; ``label``, ``image`` and ``draw`` are not used."""
        return channel_wise(single(student, NAME), single(teacher, NAME), self.temperature, valid)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}"
