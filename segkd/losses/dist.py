"""Distillation by correlation: "Knowledge Distillation from A Stronger Teacher" (Huang et al., NeurIPS 2022, arXiv
2205.10536), called DIST: inter-class and intra-class relations, by Pearson correlation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.arguments import positive, weights
from segkd.losses.base import (
    LOSSES,
    DistillationLoss,
    Tensors,
    check_logits,
    mean_over,
    no_autocast,
    single,
    upcast,
    valid_mask,
)
from segkd.losses.sampling import gather_rows

NAME = "StrongerTeacher"
CONSTANT = 1e-5  # a vector whose deviation is below this share of its mean is constant: 100 times float32's rounding


def stronger_teacher(
    student: Tensor,
    teacher: Tensor,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> Tensor:
    """``T^2 * (beta * inter + gamma * intra)``, each a mean of ``1 - Pearson(student, teacher)``.

    These are equations 8 and 9 of the paper, but for T^2, which its code adds.
    Of the softmax over the K classes of logits / T, the inter-class term takes the correlation over the classes and
    averages over pixels; the intra-class term takes it over the pixels of the batch, in all processes, and averages
    over classes. A correlation does not depend on scale: however small the probabilities of a class are everywhere, it
    counts as any other (each class is brought to a largest probability of 1 first).

    A vector that is constant (a pixel with a uniform distribution, a class with one probability at all pixels) has no
    correlation. It is not counted where the teacher's is; where only the student's is, it counts 1 without gradient.

    Args:
        student, teacher: raw logits (N, K, H, W) or (N, K), one shape; the teacher is detached.
        beta, gamma: weights of the two terms.
        temperature: T.
        valid: (N, H, W) or (N,), true where a pixel counts; None counts all. With none the value is 0.

    Returns:
        A scalar of at least float32. It is 0 where both give the same distribution.

    Raises:
        UserError: fewer than two dimensions, unequal shapes, a mask of another shape, or a temperature not above 0.
    """
    positive(temperature, "temperature", NAME)
    check_logits(student, teacher, NAME)
    n = student.shape[0]
    valid = valid_mask(valid, (n, *student.shape[2:]), NAME)
    mask = None if valid is None else valid.reshape(n, 1, -1)
    with no_autocast(student):
        log_s, log_t = (_log_softmax(x, temperature, mask) for x in (student, teacher.detach()))
        terms = []
        if beta > 0:
            terms.append(beta * _inter_class(log_s, log_t))
        if gamma > 0:
            terms.append(gamma * _intra_class(log_s, log_t, mask))
        return temperature**2 * torch.stack(terms).sum()


def _log_softmax(logits: Tensor, temperature: float, mask: Tensor | None) -> Tensor:
    """(N, K, ...) -> (N, K, P) over the classes; uniform at pixels that do not count, even for inf or NaN."""
    x = upcast(logits).reshape(*logits.shape[:2], -1)
    return F.log_softmax((x if mask is None else x.masked_fill(~mask, 0)) / temperature, dim=1)


def _inter_class(log_s: Tensor, log_t: Tensor) -> Tensor:
    """Logs of probabilities (N, K, P) -> mean over pixels of 1 - the correlation over the classes.

    It needs no mask: pixels that do not count are uniform here, which no correlation counts.
    """
    mean = 1 / log_s.shape[1]
    s, t = log_s.exp() - mean, log_t.exp() - mean
    least = CONSTANT**2 * mean
    distance, counted = _distance(s.square().sum(1), t.square().sum(1), (s * t).sum(1), least, least)
    return mean_over(distance.sum(), counted.sum())


def _intra_class(log_s: Tensor, log_t: Tensor, mask: Tensor | None) -> Tensor:
    """Logs of probabilities (N, K, P) -> mean over classes of 1 - the correlation over all processes' pixels."""
    pixels = log_s.new_tensor(float(log_s.shape[0] * log_s.shape[2])) if mask is None else mask.sum().to(log_s.dtype)
    tops = gather_rows(torch.stack([_largest(x.detach(), mask) for x in (log_s, log_t)])[None]).amax(0)
    s, t = (_scaled(x, top, mask) for x, top in zip((log_s, log_t), tops, strict=True))
    sums = torch.stack([s.detach().sum((0, 2)), t.sum((0, 2)), pixels.expand(s.shape[1])])
    sum_s, sum_t, count = gather_rows(sums[None]).sum(0)
    mean_s, mean_t = sum_s / count.clamp_min(1), sum_t / count.clamp_min(1)
    # The means may be constants: what the sums below would add through them is a multiple of a sum of deviations, 0.
    s, t = _centred(s, mean_s, mask), _centred(t, mean_t, mask)
    moments = torch.stack([s.square().sum((0, 2)), t.square().sum((0, 2)), (s * t).sum((0, 2))])
    ss, tt, st = gather_rows(moments[None]).sum(0)  # of all processes, on each
    distance, counted = _distance(ss, tt, st, *(CONSTANT**2 * count * mean.square() for mean in (mean_s, mean_t)))
    return distance.sum() / counted.sum().clamp_min(1)


def _largest(x: Tensor, mask: Tensor | None) -> Tensor:
    """(N, K, P) -> (K,), over the valid pixels."""
    x = x if mask is None else x.masked_fill(~mask, torch.finfo(x.dtype).min)
    return x.amax((0, 2))


def _scaled(log_p: Tensor, top: Tensor, mask: Tensor | None) -> Tensor:
    """Each class's probabilities over its largest one; 0 at pixels that do not count."""
    log_p = log_p - top[:, None]
    return (log_p if mask is None else log_p.masked_fill(~mask, float("-inf"))).exp()


def _centred(x: Tensor, mean: Tensor, mask: Tensor | None) -> Tensor:
    x = x - mean[:, None]
    return x if mask is None else x.masked_fill(~mask, 0)


def _distance(
    ss: Tensor, tt: Tensor, st: Tensor, least_s: Tensor | float, least_t: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Sums of squares and products of deviations -> 1 - the correlation (0 if not counted), and which are counted.

    A vector with a sum of squares that is not above its ``least`` is constant.
    """
    counted = tt > least_t
    both = counted & (ss > least_s)
    norms = torch.where(both, ss, 1).rsqrt() * torch.where(both, tt, 1).rsqrt()
    return counted.to(ss.dtype) - torch.where(both, st, 0) * norms, counted


@LOSSES.register("dist")
class StrongerTeacher(DistillationLoss):
    """``stronger_teacher`` with its constants; taps: the logits of both networks, before they are upsampled.

    Published for segmentation: beta = gamma = 1, T = 1, weight 1 on the logits, and 0.4 on those of the auxiliary head.

    The published code adds 1e-8 to the product of the two norms. Where a class is absent that is larger than the
    product, so that the class counts 1 without gradient, even for student = teacher. Here there is no such floor: a
    class counts unless it is constant relative to its own mean. For other inputs the two differ by about 1e-8 over the
    product of the norms. A batch repeated twice and a map tiled 2 x 2 give the same value.

    >>> import torch
    >>> logits = torch.randn(2, 19, 8, 16)
    >>> abs(float(StrongerTeacher()(logits, logits))) < 1e-5
    True
    """

    # Up to the published epsilon. "dist", the authors' segmentation code, has no temperature; the T^2 of the two others
    # is ours.
    published_scale = {"dist": "1", "mmrazor": "1", "torchdistill": "1"}

    def __init__(self, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        self.beta, self.gamma = weights(NAME, beta=beta, gamma=gamma)
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
        s, t = single(student, NAME), single(teacher, NAME)
        return stronger_teacher(s, t, self.beta, self.gamma, self.temperature, valid)

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}, gamma={self.gamma:g}, temperature={self.temperature:g}"
