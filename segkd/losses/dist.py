"""Distillation by correlation: "Knowledge Distillation from A Stronger Teacher" (Huang et al., NeurIPS 2022, arXiv
2205.10536), called DIST: inter-class and intra-class relations, by Pearson correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segkd.arguments import positive, weights
from segkd.losses.base import (
    LOSSES,
    DistillationLoss,
    Tensors,
    check_logits,
    no_autocast,
    single,
    valid_mask,
)
from segkd.losses.blocks import blockwise_sum, parts, zeroed
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
    valid = valid_mask(valid, (student.shape[0], *student.shape[2:]), NAME)
    with no_autocast(student), torch.no_grad():
        logs = ((*_log_softmaxes(s, t, temperature, mask), mask) for s, t, mask in parts(student, teacher, valid))
        here = _joined(_stacked([_moments_of_block(*part) for part in logs]))
        everywhere = _Moments(*(gather_rows(x[None]) for x in here))  # of all processes, on each
        known, processes = _joined(everywhere), len(everywhere.positions)
        slope = _slope(known, processes)

    def of_block(s: Tensor, t: Tensor, counted: Tensor | None) -> Tensor:
        log_s, log_t = _log_softmaxes(s, t, temperature, counted)
        terms = []
        if beta > 0:
            share = beta * processes / known.pixels.clamp_min(1)
            terms.append(share.to(log_s.dtype) * _inter_class(log_s, log_t))
        if gamma > 0:
            terms.append(gamma * _intra_class(log_s, log_t, counted, known, slope))
        return torch.stack(terms).sum()

    with no_autocast(student):
        value = blockwise_sum(of_block, student, teacher, valid)
        return temperature**2 * (value + gamma * slope.value.to(value.dtype))


def _log_softmaxes(
    student: Tensor, teacher: Tensor, temperature: float, counted: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(n, K, p) of both sides -> the same over classes; uniform at pixels that do not count, even for inf or NaN."""
    s, t = (x if counted is None else zeroed(x, counted) for x in (student, teacher))
    return (s / temperature).log_softmax(1), (t / temperature).log_softmax(1)


def _stacked(some: Sequence[_Moments]) -> _Moments:
    return _Moments(*(torch.stack(found) for found in zip(*some, strict=True)))


def _inter_class(log_s: Tensor, log_t: Tensor) -> Tensor:
    """Logs of probabilities (n, K, p) -> sum over pixels of 1 - the correlation over the classes.

    It needs no mask: pixels that do not count are uniform here, which no correlation counts.
    """
    mean = 1 / log_s.shape[1]
    s, t = log_s.exp() - mean, log_t.exp() - mean
    least = CONSTANT**2 * mean
    return _distance(s.square().sum(1), t.square().sum(1), (s * t).sum(1), least, least)[0].sum()


class _Moments(NamedTuple):
    """What is known of some maps without a gradient, in float64: the first five of student and teacher (2, K).

    tops: logs of each class's largest probability, over which the rest is taken, so that a class which is improbable
    everywhere counts as any other. means, squares: of its probabilities over that, and the sum of their deviations'
    squares. products (K,): the sum of both sides' deviations' products. positions, pixels: how many count, and of how
    many the teacher's classes are not all alike.
    """

    tops: Tensor
    means: Tensor
    squares: Tensor
    products: Tensor
    positions: Tensor
    pixels: Tensor


class _Slope(NamedTuple):
    """The intra-class term, and its gradient by a student's probability over its class's largest one (K,): ``a`` times
    the teacher's deviation there plus ``b`` times the student's own."""

    value: Tensor
    a: Tensor
    b: Tensor


def _moments_of_block(log_s: Tensor, log_t: Tensor, counted: Tensor | None) -> _Moments:
    """Logs of probabilities (n, K, p) of both sides, and which of the pixels (n, p) count."""
    mask = None if counted is None else counted[:, None]
    alike = (log_t.exp() - 1 / log_t.shape[1]).square().sum(1) <= CONSTANT**2 / log_t.shape[1]
    number = log_s.new_tensor(float(log_s.shape[0] * log_s.shape[2])) if mask is None else mask.sum().to(log_s.dtype)
    tops = torch.stack([_largest(x, mask) for x in (log_s, log_t)])
    sides = [_over(x, top, mask) for x, top in zip((log_s, log_t), tops, strict=True)]
    means = torch.stack([x.sum((0, 2)) / number.clamp_min(1) for x in sides])
    s, t = (_centred(x, mean, mask) for x, mean in zip(sides, means, strict=True))
    squares, products = torch.stack([x.square().sum((0, 2)) for x in (s, t)]), (s * t).sum((0, 2))
    found = _Moments(tops, means, squares, products, number, (~alike).sum())
    return _Moments(*(x.double() for x in found))


def _joined(some: _Moments) -> _Moments:
    """Those of several parts, one after the other in the first dimension, as one."""
    tops = some.tops.amax(0)
    factor = (some.tops - tops).exp()
    total = some.positions.sum()
    number = some.positions[:, None, None]
    means = (some.means * factor * number).sum(0) / total.clamp_min(1)
    off = some.means * factor - means
    squares = (some.squares * factor.square() + number * off.square()).sum(0)
    products = (some.products * factor.prod(1) + number[..., 0] * off.prod(1)).sum(0)
    return _Moments(tops, means, squares, products, total, some.pixels.sum())


def _slope(known: _Moments, processes: int) -> _Slope:
    """Of the moments of all processes."""
    (ss, tt), st = known.squares, known.products
    least = CONSTANT**2 * known.positions * known.means.square()
    distance, counted = _distance(ss, tt, st, *least)
    both = counted & (ss > least[0])
    norms = torch.where(both, ss, 1).rsqrt() * torch.where(both, tt, 1).rsqrt() * both
    classes = counted.sum().clamp_min(1)
    a = -norms * processes / classes  # of DDP's mean over processes
    # the means may be constants: what the sums would add through them is a multiple of a sum of deviations, 0
    return _Slope(distance.sum() / classes, a, -a * st / torch.where(both, ss, 1))


def _intra_class(log_s: Tensor, log_t: Tensor, counted: Tensor | None, known: _Moments, slope: _Slope) -> Tensor:
    """Logs of probabilities (n, K, p) -> 0, with the gradient that ``slope`` gives the student."""
    mask = None if counted is None else counted[:, None]
    with torch.no_grad():
        tops, means = known.tops.to(log_s.dtype), known.means.to(log_s.dtype)
        s, t = (_over(x, top, mask) for x, top in zip((log_s, log_t), tops, strict=True))
        own = (s - means[0][:, None]).mul_(slope.b.to(log_s.dtype)[:, None])
        own += (t - means[1][:, None]).mul_(slope.a.to(log_s.dtype)[:, None])
        own *= s
    value = (log_s * own).sum()
    return value - value.detach()


def _largest(x: Tensor, mask: Tensor | None) -> Tensor:
    """(n, K, p) -> (K,), over the pixels that count."""
    x = x if mask is None else x.masked_fill(~mask, torch.finfo(x.dtype).min)
    return x.amax((0, 2))


def _over(log_p: Tensor, top: Tensor, mask: Tensor | None) -> Tensor:
    """Each class's probabilities over its largest one; 0 at pixels that do not count."""
    log_p = log_p - top[:, None]
    return log_p.exp_() if mask is None else log_p.clamp_max_(0).exp_().mul_(mask)


def _centred(x: Tensor, mean: Tensor, mask: Tensor | None) -> Tensor:
    x = x - mean[:, None]
    return x if mask is None else x.mul_(mask)


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
