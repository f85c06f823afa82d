"""Correlation congruence by a kernel (Peng et al., ICCV 2019, arXiv 1904.01802): the loss of the part "Correlation
Congruence", with the Gaussian kernel's Taylor expansion of the part "Generalized Kernel-Based Correlation"."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segkd.arguments import integer, positive
from segkd.errors import UserError, nearest
from segkd.losses.base import LOSSES, no_autocast, upcast
from segkd.losses.gram import gram
from segkd.losses.relation import RelationLoss
from segkd.losses.sampling import IGNORE_INDEX
from segkd.losses.similarity import unit

NAME = "CorrelationCongruence"
KERNELS = ("gaussian", "bilinear")


def correlation_congruence(
    student: Tensor,
    teacher: Tensor,
    kernel: str = "gaussian",
    gamma: float = 0.4,
    max_p: int = 2,
    normalize: bool = True,
) -> Tensor:
    """``mean over pairs (i, j) of (k(s_i, s_j) - k(t_i, t_j))^2``: the paper's 1 / M^2 times a squared Frobenius norm.

    Kernels of x and y, the rows divided by their L2 norms:
    "gaussian": ``exp(-2 gamma) * sum over p = 0..max_p of (2 gamma)^p / p! * (x . y)^p``, the Taylor expansion of
    ``exp(-gamma |x - y|^2)``, which holds for vectors of unit length alone; "bilinear": ``x . y``.

    Args:
        student, teacher: a row for each sample, (M, D) with M >= 1, any D on either side; the teacher is detached.
        kernel: "gaussian" or "bilinear".
        gamma, max_p: of the Gaussian: its sharpness, above 0, and the order of the expansion, at least 1.
        normalize: divide the rows by their norms; a row shorter than 1e-4 has no direction: it becomes zero, without
            gradient. False takes rows as they are, which must be of about unit length: the value grows with the fourth
            power of a greater one.

    Returns:
        A scalar of at least float32. It is 0 where the products are alike, as for one sample alone.

    Raises:
        UserError: not two dimensions, unequal numbers of samples, an unknown kernel, or numbers out of their range.
    """
    if student.dim() != 2 or teacher.dim() != 2 or len(student) != len(teacher):
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise UserError(f"{NAME} takes a row for each sample, as many on both sides, got {shapes}")
    coefficients = _coefficients(kernel, gamma, max_p)
    with no_autocast(student):
        s, t = upcast(student), upcast(teacher.detach())
        if normalize:
            s, t = unit(s), unit(t)
        difference = _polynomial(gram(s[None])[0], coefficients) - _polynomial(gram(t[None])[0], coefficients)
        return difference.square().mean()


def _coefficients(kernel: str, gamma: float, max_p: int) -> list[float]:
    """Those of x . y, (x . y)^2, ... in the kernel. The constant term is left out: it is the same on both sides."""
    if kernel not in KERNELS:
        raise UserError(f"{NAME}: unknown kernel {kernel!r}; {nearest(kernel, KERNELS)}")
    if kernel == "bilinear":
        return [1.0]
    positive(gamma, "gamma", NAME)
    orders = range(1, integer(max_p, "max_p", NAME) + 1)
    return [math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) for p in orders]


def _polynomial(x: Tensor, coefficients: list[float]) -> Tensor:
    """Sum of ``coefficients[p - 1] * x^p`` by Horner's rule."""
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value * x


@LOSSES.register("cc")
class CorrelationCongruence(RelationLoss):
    """``correlation_congruence`` of samples; tap: a deep feature (N, C, H, W) of any channels, without a connector.

    Published for classification and recognition alone, on the embedding vectors of whole images (``samples="batch"``),
    with the Gaussian kernel, gamma 0.4, order 2 and weight 0.003, which carries over. On pixels' unit rows it does next
    to nothing: at weight 1 the term has about a hundredth of the cross entropy's gradient (CamVid). A batch repeated
    twice gives the same value, as does a map tiled 2 x 2 if all its pixels (or regions) are samples.

    Not built are two published codes. RepDistiller's comes from the authors, but is no function of correlations: it
    multiplies ``|s_i - t_i|`` by ``|s_(i+1) - t_(i+1)|``, the differences at neighbours in the batch, so that its value
    changes with the order of the samples; and it compares two trained embeddings, which may collapse. torchdistill
    takes the norm in place of its square, whose gradient does not fade towards the optimum, and expands the kernel for
    unit vectors without making its rows such. Here there is no embedding, as kernels compare any two widths.

    >>> import torch
    >>> feature = torch.randn(2, 8, 6, 10)
    >>> loss = CorrelationCongruence(count=16)
    >>> draw = loss.sample((2, 8, 6, 10), seed=0)
    >>> float(loss(feature, feature, draw=draw))
    0.0
    """

    published_scale = {
        "paper": "1",
        # Of the square root of the value: torchdistill divides the Frobenius norm itself by N^2. Its weight, 0.003 too,
        # has no constant counterpart: gradients agree for 0.003 / (2 N) times 1 / the root of the value.
        "torchdistill": "1 / N",
    }

    def __init__(
        self,
        kernel: str = "gaussian",
        gamma: float = 0.4,
        max_p: int = 2,
        samples: str = "pixels",
        count: int = 128,
        num_classes: int | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(samples, count, num_classes, ignore_index)
        _coefficients(kernel, gamma, max_p)
        self.kernel, self.gamma, self.max_p = kernel, float(gamma), int(max_p)

    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        return correlation_congruence(student, teacher, self.kernel, self.gamma, self.max_p)

    def extra_repr(self) -> str:
        kernel = f"kernel={self.kernel!r}"
        gaussian = f", gamma={self.gamma:g}, max_p={self.max_p}" if self.kernel == "gaussian" else ""
        return f"{kernel}{gaussian}, {super().extra_repr()}"
