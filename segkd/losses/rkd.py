"""Relational knowledge distillation by distances and angles (Park et al., CVPR 2019, arXiv 1904.05068)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from segkd.arguments import weights
from segkd.errors import UserError
from segkd.losses.base import LOSSES, no_autocast, upcast
from segkd.losses.gram import gram as products
from segkd.losses.relation import RelationLoss
from segkd.losses.sampling import IGNORE_INDEX

NAME = "RelationalKD"
LEAST = 3  # samples: two have one distance, which is its own mean, and no angle
FAINT = 1e-3  # nearer samples coincide, too: their gradient would be more than half precision holds
COINCIDENT = 1e-8  # of the mean squared distance: samples nearer to each other than that are one
ROUNDING = 16  # units of the last place that the coordinates of one and the same sample may differ by
BLOCK = {"cpu": 2**17, "other": 2**24}  # angles held at a time; on a CPU, as many as its cache holds


def relational_kd(student: Tensor, teacher: Tensor, w_d: float = 25.0, w_a: float = 50.0) -> Tensor:
    """``w_d * distance term + w_a * angle term`` over M samples (sections 3.2.1 and 3.2.2, equations 5 to 10).

    Distance: ``mean over pairs (i, j) of h(d_ij(student) - d_ij(teacher))``, with
    ``d_ij = |x_i - x_j| / mean of those that are not 0``. Angle: ``mean over triples (i, j, k) of
    h(a_ijk(student) - a_ijk(teacher))``, with ``a_ijk = cos of the angle at x_i between x_j and x_k``. h is the Huber
    loss of threshold 1. Equal indices count in both means, as 0, like the publication's.

    Samples nearer than 1e-4 of the root mean square distance, than 1e-3, or than rounding tells apart, coincide: their
    distance is 0, angles at them with each other have cosine 0, and neither has a gradient there.

    Args:
        student, teacher: a row for each sample, (M, D), any D on either side; the teacher is detached.
        w_d, w_a: weights of the terms. A term of weight 0 is not computed.

    Returns:
        A scalar of at least float32. It is 0 where one is the other turned, moved or scaled, and for M < 3.

    Raises:
        UserError: not two dimensions, unequal numbers of samples, or weights that are not numbers from 0 up.
    """
    if student.dim() != 2 or teacher.dim() != 2 or len(student) != len(teacher):
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise UserError(f"{NAME} takes a row for each sample, as many on both sides, got {shapes}")
    weights(NAME, w_d=w_d, w_a=w_a)
    with no_autocast(student):
        result = torch.promote_types(student.dtype, torch.float32)
        if len(student) < LEAST:
            return (0 * student.to(result)).sum()
        s, t = _geometry(student), _geometry(teacher.detach())
        value = s.squared.new_zeros(())
        if w_d:
            value = value + w_d * F.smooth_l1_loss(_distances(s), _distances(t))
        if w_a:
            total: Tensor = _Angles.apply(s.gram, _inverse(s), t.gram, _inverse(t))
            value = value + w_a * total / len(student) ** 3
        return value.to(result)


class Geometry(NamedTuple):
    """The geometry of M samples, in float64: products (M, M) about their centre, squared distances, which are apart."""

    gram: Tensor
    squared: Tensor
    apart: Tensor


def _geometry(rows: Tensor) -> Geometry:
    """(M, D) -> all that distances and angles are made of; nothing of size M * M * D or M * M * M."""
    rounding = ROUNDING * torch.finfo(upcast(rows).dtype).eps
    # float64: distances of samples far from the origin, or near to each other, are small differences of products
    exact = rows.double()
    centred = exact - exact.mean(0)
    gram = products(centred[None])[0]
    own = gram.diagonal()
    squared = own[:, None] + own[None] - 2 * gram
    with torch.no_grad():
        least = torch.maximum(COINCIDENT * squared.mean(), rounding**2 * exact.square().sum(1).mean()).clamp_min(
            FAINT**2
        )
        apart = squared > least
        apart.fill_diagonal_(False)
    return Geometry(gram, squared.where(apart, 1.0), apart)


def _distances(g: Geometry) -> Tensor:
    """(M, M), divided by the mean of those between samples that are apart."""
    distance = g.squared.sqrt() * g.apart
    mean = distance.sum() / g.apart.sum().clamp_min(1)
    return distance / mean.where(mean > 0, 1.0)


def _inverse(g: Geometry) -> Tensor:
    """(M, M) of 1 / distance, 0 where samples coincide."""
    return g.squared.rsqrt() * g.apart


class _Angles(torch.autograd.Function):
    """``sum over (i, j, k) of h(a_ijk(student) - a_ijk(teacher))``; makes the gradient where the angles are.

    ``a_ijk = (x_j - x_i) . (x_k - x_i) / (d_ij d_ik)`` comes from products (M, M) and inverse distances (M, M) alone,
    for a block of vertices i at a time. Processes have the same samples; each takes its share of the vertices.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, gram_s: Tensor, inverse_s: Tensor, gram_t: Tensor, inverse_t: Tensor) -> Tensor:
        samples = len(gram_s)
        wanted = any(ctx.needs_input_grad)  # type: ignore[attr-defined]
        total, grad_gram, grad_inverse = gram_s.new_zeros(()), torch.zeros_like(gram_s), torch.zeros_like(gram_s)
        rank, world = 0, 1
        if distributed.is_available() and distributed.is_initialized():
            rank, world = distributed.get_rank(), distributed.get_world_size()
        vertices = range(samples * rank // world, samples * (rank + 1) // world)
        length = max(1, BLOCK.get(gram_s.device.type, BLOCK["other"]) // samples**2)
        # one allocation for all blocks: memory that is given back and taken anew after each costs more than the angles
        kept = gram_s.new_empty(3, min(length, max(1, len(vertices))), samples, samples)
        for first in range(vertices.start, vertices.stop, length):
            block = slice(first, min(first + length, vertices.stop))
            angle, difference, slope = kept[:, : block.stop - block.start]
            _cosines(gram_s, inverse_s, block, out=angle)
            torch.sub(angle, _cosines(gram_t, inverse_t, block, out=slope), out=difference)
            torch.clamp(difference, -1, 1, out=slope)  # h' ; h = slope * (difference - slope / 2)
            total += torch.dot(slope.flatten(), difference.sub_(slope, alpha=0.5).flatten())
            if wanted:
                _add_gradient(slope, angle, inverse_s[block], block, grad_gram, grad_inverse)
        if world > 1:
            for part in (total, grad_gram, grad_inverse):
                distributed.all_reduce(part)
        ctx.save_for_backward(grad_gram, grad_inverse)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_gram, grad_inverse = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad * grad_gram, grad * grad_inverse, None, None


def _cosines(gram: Tensor, inverse: Tensor, block: slice, out: Tensor) -> Tensor:
    """(M, M) each -> cosines (B, M, M) at the vertices of ``block``, in ``out``."""
    near, own = inverse[block], gram.diagonal()[block]
    half = gram[block] - own[:, None] / 2  # (x_j - x_i)(x_k - x_i) = G_jk - (G_ij - G_ii / 2) - (G_ik - G_ii / 2)
    torch.sub(gram[None], half[:, :, None], out=out)
    return out.sub_(half[:, None]).mul_(near[:, :, None]).mul_(near[:, None])


def _add_gradient(
    slope: Tensor, angle: Tensor, near: Tensor, block: slice, grad_gram: Tensor, grad_inverse: Tensor
) -> None:
    """Adds the gradient by products and inverse distances of a block (B, M, M); overwrites ``slope`` and ``angle``."""
    # what multiplies 1 / d_ij in a_ijk is a_ijk * d_ij, and by symmetry it stands there twice
    sums = angle.mul_(slope).sum(2)
    grad_inverse[block] += 2 * sums * torch.where(near > 0, 1 / near.where(near > 0, 1.0), 0.0)
    by_product = slope.mul_(near[:, :, None]).mul_(near[:, None])
    grad_gram += by_product.sum(0)
    rows = by_product.sum(2)
    grad_gram[block] -= 2 * rows
    grad_gram.diagonal()[block] += rows.sum(1)


@LOSSES.register("rkd")
class RelationalKD(RelationLoss):
    """``relational_kd`` of samples; tap: a deep feature (N, C, H, W) of any channels, without a connector.

    Published for classification and retrieval alone, on the vector before the classifier of whole images
    (``samples="batch"``), with w_d = 25, w_a = 50 and weight 1. Whole images are too few in segmentation: below 3
    samples the value is 0. Time grows as the cube of the samples (``count`` times the images of all processes, which
    share the work); memory as their square. A batch repeated twice gives the same value, as does a map tiled 2 x 2 if
    all its pixels (or regions) are samples.

    It differs from the published code at samples that coincide: there, a distance of 1e-6 is taken for one that is not
    0, with a gradient of up to 4e11, and NaN in half precision. Pixels of a flat region do coincide.

    >>> import torch
    >>> feature = torch.randn(2, 8, 6, 10)
    >>> loss = RelationalKD(count=16)
    >>> draw = loss.sample((2, 8, 6, 10), seed=0)
    >>> float(loss(feature, 3 * feature, draw=draw)) < 1e-9
    True
    """

    # It too averages over all N^2 pairs and N^3 triples, equal indices among them: 25 and 50 carry over.
    published_scale = {"repdistiller": "1"}

    def __init__(
        self,
        w_d: float = 25.0,
        w_a: float = 50.0,
        samples: str = "pixels",
        count: int = 32,
        num_classes: int | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(samples, count, num_classes, ignore_index)
        self.w_d, self.w_a = weights(NAME, w_d=w_d, w_a=w_a)

    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        return relational_kd(student, teacher, self.w_d, self.w_a)

    def extra_repr(self) -> str:
        return f"w_d={self.w_d:g}, w_a={self.w_a:g}, {super().extra_repr()}"
