"""Decoupled knowledge distillation (Zhao et al., CVPR 2022, arXiv 2203.08679)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.arguments import integer, positive, weights
from segkd.errors import UserError
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
from segkd.losses.sampling import IGNORE_INDEX, labelled

NAME = "DecoupledKD"


def decoupled_kd(
    student: Tensor,
    teacher: Tensor,
    label: Tensor,
    alpha: float = 1.0,
    beta: float = 0.5,
    temperature: float = 1.0,
    ignore_index: int = IGNORE_INDEX,
    valid: Tensor | None = None,
    change: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """``T^2 * mean over labelled pixels of (alpha * TCKD + beta * NCKD)`` (equation 7).

    With p the softmax over the K classes of logits / T and y the pixel's label, TCKD is the KL, teacher to student, of
    the two probabilities (p_y, 1 - p_y), and NCKD that of the softmax over the K - 1 other classes. 1 - p_y is never a
    difference: both come from the log-sum-exp of the other logits.

    Args:
        student, teacher: raw logits (N, K, H, W) or (N, K), one shape; the teacher is detached.
        label: (N, H, W) or (N,), a class or ``ignore_index``.
        alpha, beta: weights of the two terms.
        temperature: T.
        ignore_index: label of pixels that take no part.
        valid: of the label's shape, true where a pixel counts; None counts all. With no pixel the value is 0.
        change: of both sides' logits beforehand, pixel by pixel: (n, K, p) of a part of them -> the same shape.

    Returns:
        A scalar of at least float32. It is 0 where both give the same distribution.

    Raises:
        UserError: fewer than two dimensions, unequal shapes, a label or mask of another shape, a label that is no
            class, or a temperature not above 0.
    """
    positive(temperature, "temperature", NAME)
    check_logits(student, teacher, NAME)
    counted = counted_pixels(student, label, ignore_index, valid)

    def of_block(s: Tensor, t: Tensor, counted: Tensor, label: Tensor) -> Tensor:
        # equal logits at the pixels left out: exactly 0 in value and gradient, even for inf or NaN
        s, t = zeroed(s, counted), zeroed(t, counted)
        if change is not None:
            s, t = change(s), change(t)
        target = label.masked_fill(~counted, 0)[:, None]
        binary_s, others_s = _decoupled(s / temperature, target)
        binary_t, others_t = _decoupled(t / temperature, target)
        tckd = F.kl_div(binary_s, binary_t, reduction="sum", log_target=True)
        nckd = F.kl_div(others_s, others_t, reduction="sum", log_target=True)
        return alpha * tckd + beta * nckd

    with no_autocast(student):
        total = temperature**2 * blockwise_sum(of_block, student, teacher, counted, label)
        return mean_over(total, counted.sum())


def counted_pixels(student: Tensor, label: Tensor, ignore_index: int, valid: Tensor | None) -> Tensor:
    """Which pixels count: labelled and valid. A label that is neither a class nor ``ignore_index`` is a UserError."""
    positions, classes = (student.shape[0], *student.shape[2:]), student.shape[1]
    if tuple(label.shape) != positions:
        raise UserError(f"{NAME}: the label is {tuple(label.shape)}, its positions are {positions}; resize it first")
    counted = labelled(label, classes, ignore_index, NAME, cure=f"the logits have {classes} classes: tap others")
    mask = valid_mask(valid, positions, NAME)
    return counted if mask is None else counted & mask


def _decoupled(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K, ...) and target (N, 1, ...) -> log (p_y, 1 - p_y) (N, 2, ...), log softmax over the others (N, K, ...)."""
    # a huge finite number at y, not -inf: probability exactly 0, and 0 * (log p - log q) stays 0 instead of NaN
    others = logits.scatter(1, target, torch.finfo(logits.dtype).min / 2)
    rest = others.logsumexp(1, keepdim=True)
    odds = logits.gather(1, target) - rest
    return F.logsigmoid(torch.cat([odds, -odds], 1)), others - rest


@LOSSES.register("dkd")
class DecoupledKD(DistillationLoss):
    """``decoupled_kd`` with its constants; taps: the logits of both networks, before they are upsampled.

    Published for classification only, at weight 1: alpha = 1, beta = 0.5, T = 1 on ImageNet (the defaults, nearest to
    the T = 1 of segmentation), alpha = 1, beta = 8, T = 4 on CIFAR (beta 0.5 to 12, by the pair). A weight means the
    same here, per labelled pixel. The authors warm it up linearly, over 20 epochs on CIFAR and one on ImageNet: give
    the bind ``schedule=dict(warmup=...)``.

    Unlike the authors' code, ignored labels take no part (an index error there), and log(1 - p_y) is finite however
    confident a network is. A batch repeated twice and a map tiled 2 x 2 give the same value.

    >>> import torch
    >>> logits = torch.randn(2, 19, 8, 16)
    >>> float(DecoupledKD()(logits, logits, torch.randint(0, 19, (2, 8, 16))))
    0.0
    """

    published_scale = {
        "mdistiller": "1",  # the authors: rows (N, K) alone, sum / N
        "mmrazor": "1",  # likewise ("batchmean", its default)
        "mmrazor_mean": "N * H * W",  # with reduction="mean", which in truth sums over the rows
    }

    usual_rms = SOFTMAX

    def __init__(
        self, alpha: float = 1.0, beta: float = 0.5, temperature: float = 1.0, ignore_index: int = IGNORE_INDEX
    ) -> None:
        super().__init__()
        self.alpha, self.beta = weights(NAME, alpha=alpha, beta=beta)
        self.ignore_index = integer(ignore_index, "ignore_index", NAME, least=None)
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
        """Logits (N, K, H, W) or (N, K), label (N, H, W) or (N,) -> scalar; ``image`` and ``draw`` are not used."""
        return self.compare(single(student, NAME), single(teacher, NAME), label, valid)

    def compare(
        self,
        student: Tensor,
        teacher: Tensor,
        label: Tensor | None,
        valid: Tensor | None = None,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """``decoupled_kd`` with this loss's constants; no label is a UserError."""
        if label is None:
            raise UserError(f"{NAME} needs the labels: it tells the labelled class from the others")
        constants = self.alpha, self.beta, self.temperature, self.ignore_index
        return decoupled_kd(student, teacher, label, *constants, valid, change)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}, beta={self.beta:g}, temperature={self.temperature:g}"
