"""Neuron selectivity transfer: distributions of channel maps matched by MMD (Huang, Wang 2017, arXiv 1707.01219)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segkd.arguments import integer, number
from segkd.errors import UserError
from segkd.losses.base import (
    LOSSES,
    DistillationLoss,
    Tensors,
    mean_over,
    no_autocast,
    resized_mask,
    upcast,
    valid_mask,
)
from segkd.losses.gram import gram

NAME = "NeuronSelectivity"
EPS = 1e-4  # a shorter channel map fades out with its length: no gradient can then exceed what half precision holds


def neuron_selectivity(
    student: Tensor, teacher: Tensor, degree: int = 2, c: float = 0.0, valid: Tensor | None = None
) -> Tensor:
    """``mean over samples of MMD^2`` between the channel maps of student and teacher, with a polynomial kernel.

    ``MMD^2 = mean_ij k(t_i, t_j) + mean_ij k(s_i, s_j) - 2 mean_ij k(s_i, t_j)``, ``k(x, y) = (x . y + c)^degree``,
    over channel maps (vectors over the positions) of unit length (the paper's equation 4). The products are C x C Gram
    matrices of the features as they are, divided by the lengths afterwards: neither the textbook's C x C x H x W
    products nor normalised copies exist. Small maps with many channels take the same value from position matrices,
    ``||S^T S / C_s - T^T T / C_t||^2``, where that is less work.

    Args:
        student, teacher: features (N, C_s, H, W) and (N, C_t, H, W), any channels; the teacher is detached.
        degree: of the kernel, at least 1.
        c: the kernel's constant, from 0.
        valid: (N, H, W), true where a position takes part; None takes all. A sample without any valid position is not
            counted; with none at all the value is 0.

    Returns:
        A scalar of at least float32, 0 (and up to rounding never less) where the channels are distributed alike: also
        for the same channels in another order.

    Raises:
        UserError: not four dimensions, another N, H or W on one side, a degree below 1, a c below 0, or a wrong mask.
    """
    _check_kernel(degree, c)
    _check(student, teacher)
    n, c_s, h, w = student.shape
    mask = valid_mask(valid, (n, h, w), NAME)
    c_t, positions = teacher.shape[1], h * w
    by_channels = positions * (c_s * c_s + c_t * c_t + c_s * c_t)
    by_positions = positions * positions * (c_s + c_t)
    with no_autocast(student):
        s = _rows(student, mask)
        t = _rows(teacher.detach().to(s.dtype), mask)
        if degree == 2 and c == 0 and by_positions < by_channels:
            total = _by_positions(s, t)
        else:
            total = _by_channels(s, t, degree, c)
        return total / n if mask is None else mean_over(total, mask.flatten(1).any(1).sum())


def _rows(x: Tensor, mask: Tensor | None) -> Tensor:
    """(N, C, H, W) -> (N, C, H * W) of at least float32, 0 where the mask is false."""
    x = upcast(x)
    return (x if mask is None else x.masked_fill(~mask[:, None], 0)).flatten(2)


def _by_channels(student: Tensor, teacher: Tensor, degree: int, c: float) -> Tensor:
    """(N, C, P) -> sum over samples of MMD^2."""
    inverse_s, inverse_t = _inverse_length(student), _inverse_length(teacher)
    same_t = _kernel_mean(gram(teacher), inverse_t, inverse_t, degree, c)
    same_s = _kernel_mean(gram(student), inverse_s, inverse_s, degree, c)
    return (same_t + same_s - 2 * _kernel_mean(gram(student, teacher), inverse_s, inverse_t, degree, c)).sum()


def _by_positions(student: Tensor, teacher: Tensor) -> Tensor:
    """The same for degree 2 and c = 0, from P x P matrices."""
    s, t = (x * _inverse_length(x) for x in (student, teacher))
    a, b = gram(s.transpose(1, 2)) / s.shape[1], gram(t.transpose(1, 2)) / t.shape[1]
    return (a - b).square().sum()


def _inverse_length(rows: Tensor) -> Tensor:
    """(N, C, P) -> (N, C, 1)."""
    length: Tensor = torch.linalg.vector_norm(rows, dim=2, keepdim=True)
    return 1 / length.clamp_min(EPS)


def _kernel_mean(products: Tensor, inverse_1: Tensor, inverse_2: Tensor, degree: int, c: float) -> Tensor:
    """(N, C1, C2) products of unnormalised rows -> (N,) means of the kernel."""
    cosine = products * inverse_1 * inverse_2.transpose(1, 2)
    kernel = (cosine + c if c else cosine).pow(degree)
    return kernel.mean((1, 2))


def _check_kernel(degree: int, c: float) -> None:
    integer(degree, "degree", NAME)
    number(c, "c", NAME, least=0)


def _check(student: Tensor, teacher: Tensor) -> None:
    shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
    if student.dim() != 4 or teacher.dim() != 4 or student.shape[0] != teacher.shape[0]:
        raise UserError(f"{NAME} takes features (N, C, H, W) with one N on both sides, got {shapes}")
    if student.shape[2:] != teacher.shape[2:]:
        raise UserError(f"{NAME} compares maps of one height and width, got {shapes}; resize one first (a bind does)")


@LOSSES.register("nst")
class NeuronSelectivity(DistillationLoss):
    """``neuron_selectivity`` with its kernel; taps: one or several pairs of features, without a connector.

    Several pairs are averaged (publications add them up: multiply the weight by their number). Published: degree 2 and
    c = 0 (the paper's choice, and the default), in RepDistiller with weight 50 at the ends of all stages; there is no
    published use for segmentation. A batch repeated twice and a map tiled 2 x 2 give the same value. The paper's linear
    kernel is ``degree=1``; its Gaussian kernel is not built.

    >>> import torch
    >>> feature = torch.randn(2, 8, 6, 10)
    >>> abs(float(NeuronSelectivity()(feature, feature.flip(1)))) < 1e-6
    True
    """

    # For one pair: it too is a mean over N and pairs of channels. It adds up its pairs of features, each at its weight
    # 50, and pools the larger map to a square of the smaller height, which fails on maps that are not square.
    published_scale = {"repdistiller": "1"}

    any_channels = True

    def __init__(self, degree: int = 2, c: float = 0.0) -> None:
        super().__init__()
        _check_kernel(degree, c)
        self.degree, self.c = int(degree), float(c)

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
        """Feature(s) (N, C, H, W) of both sides -> scalar; ``label``, ``image`` and ``draw`` are not used.

        ``valid`` (N, H, W) is of the first tap's size; for other sizes it is resized, nearest-exact.
        """
        students = (student,) if isinstance(student, Tensor) else student
        teachers = (teacher,) if isinstance(teacher, Tensor) else teacher
        if len(students) != len(teachers):
            taps = f"{len(students)} and {len(teachers)}"
            raise UserError(f"{NAME} takes as many taps of the teacher as of the student, got {taps}")
        if valid is not None:
            valid = valid_mask(valid, (students[0].shape[0], *students[0].shape[2:]), NAME)
        terms = []
        for s, t in zip(students, teachers, strict=True):
            mask = None if valid is None else resized_mask(valid, s.shape[0], s.shape[2:], NAME)
            terms.append(neuron_selectivity(s, t, self.degree, self.c, mask))
        return torch.stack(terms).mean()

    def extra_repr(self) -> str:
        return f"degree={self.degree}, c={self.c:g}"
