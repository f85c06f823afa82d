"""Intra-class feature variation distillation: Wang et al., "Intra-class Feature Variation Distillation for Semantic
Segmentation", ECCV 2020, section 3.2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from segkd.arguments import integer
from segkd.errors import UserError
from segkd.losses.base import (
    LOSSES,
    DistillationLoss,
    Tensors,
    mean_over,
    no_autocast,
    single,
    upcast,
    valid_mask,
)
from segkd.losses.sampling import IGNORE_INDEX, labelled

NAME = "IntraClassVariation"
FAINT = 1e-4  # pixels and prototypes shorter than this fade out instead of being blown up to unit length


def intra_class_variation(
    student: Tensor,
    teacher: Tensor,
    label: Tensor,
    num_classes: int,
    ignore_index: int = IGNORE_INDEX,
    valid: Tensor | None = None,
) -> Tensor:
    """``mean over labelled pixels p of (M(student, p) - M(teacher, p))^2`` (equations 1 and 2).

    ``M(f, p)`` is the cosine of the pixel's feature and its prototype: the mean feature of its class in its image. The
    prototypes of all classes come from one product with the classes' membership; the gradient goes through them, too.

    Args:
        student, teacher: features (N, C, H, W) of one N, H, W, any C on either side; the teacher is detached.
        label: (N, H, W), a class or ``ignore_index``.
        num_classes: K.
        ignore_index: label of pixels that belong to no prototype and take no part.
        valid: (N, H, W), true where a pixel counts; None counts all. With no pixel the value is 0.

    Returns:
        A scalar of at least float32, from 0 to 4. It is 0 where both sides vary alike about their prototypes.

    Raises:
        UserError: not four dimensions, unequal N, H or W, a label or mask of another shape, a label that is no class.
    """
    counted = _counted(student, teacher, label, num_classes, ignore_index, valid)
    with no_autocast(student):
        total: Tensor = _SquaredDifference.apply(student, teacher.detach(), label, counted, num_classes)
        return mean_over(total, counted.sum())


def _counted(
    student: Tensor, teacher: Tensor, label: Tensor, num_classes: int, ignore_index: int, valid: Tensor | None
) -> Tensor:
    """Which pixels (N, H, W) count; a UserError for what does not fit together."""
    shapes = tuple(student.shape), tuple(teacher.shape)
    if not len(shapes[0]) == len(shapes[1]) == 4 or any(shapes[0][i] != shapes[1][i] for i in (0, 2, 3)):
        raise UserError(
            f"{NAME} takes features (N, C, H, W) of one N, H and W on both sides, got {shapes[0]} and {shapes[1]}"
        )
    positions = (student.shape[0], *student.shape[2:])
    if tuple(label.shape) != positions:
        raise UserError(f"{NAME}: the label is {tuple(label.shape)}, its positions are {positions}; resize it first")
    counted = labelled(label, num_classes, ignore_index, NAME)
    mask = valid_mask(valid, positions, NAME)
    return counted if mask is None else counted & mask


class _SquaredDifference(torch.autograd.Function):
    """Sum over counted pixels. The gradient is by hand: beside the inputs it keeps a few numbers for each pixel."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, student: Tensor, teacher: Tensor, label: Tensor, counted: Tensor, classes: int
    ) -> Tensor:
        inside = counted.flatten(1)
        own = label.flatten(1).masked_fill(~inside, 0)
        member = _membership(own, inside, classes, student)
        size = member.sum(2, keepdim=True).clamp_min_(1)
        length, prototype, cosine = _cosine_to_prototype(student, own, inside, member, size)
        difference = cosine - _cosine_to_prototype(teacher, own, inside, member, size)[2].to(cosine.dtype)
        ctx.save_for_backward(student, own, inside, size, length, prototype, cosine, difference)
        return difference.square().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        student, own, inside, size, length, prototype, *values = ctx.saved_tensors  # type: ignore[attr-defined]
        with no_autocast(student):
            cosine, difference = values
            feature = _finite(upcast(student).flatten(2), length, inside)
            member = _membership(own, inside, size.shape[1], feature)
            length = length.masked_fill(~inside, 0)
            out = _gradient(feature, member, size, length, prototype, cosine, 2 * grad * difference)
            return out.view(student.shape).to(student.dtype), None, None, None, None


def _membership(own: Tensor, inside: Tensor, classes: int, like: Tensor) -> Tensor:
    """Class and whether it counts (N, P) -> membership (N, K, P) of 0 and 1, of at least float32."""
    counts = upcast(inside.to(like.dtype))[:, None]
    return counts.new_zeros(len(own), classes, own.shape[1]).scatter_(1, own[:, None], counts)


def _finite(feature: Tensor, length: Tensor, inside: Tensor) -> Tensor:
    """(N, C, P), copied with 0 for the pixels that do not count if one of those is not finite: 0 times it is not 0."""
    return feature if (length.isfinite() | inside).all() else feature.masked_fill(~inside[:, None], 0)


def _inverse(length: Tensor) -> tuple[Tensor, Tensor]:
    """1 / length, bounded for faint vectors; and whether it changes with the vector, as a factor."""
    return 1 / length.clamp_min(FAINT), (length > FAINT).to(length.dtype)


def _cosine_to_prototype(
    feature: Tensor, own: Tensor, inside: Tensor, member: Tensor, size: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(N, C, H, W), classes -> lengths (N, P), prototypes (N, K, C) and cosines (N, P), 0 where not counted.

    Lengths go sample by sample: the squares of the whole batch would be as large as the student's gradient.
    """
    feature = upcast(feature).flatten(2)
    squares = feature.new_empty(feature.shape[1:])
    length = torch.stack([torch.mul(x, x, out=squares).sum(0) for x in feature]).sqrt_()
    feature, member, size = _finite(feature, length, inside), member.to(feature.dtype), size.to(feature.dtype)
    prototype = (member @ feature.transpose(1, 2)) / size
    product = (prototype @ feature).gather(1, own[:, None])[:, 0]
    small = _inverse(torch.linalg.vector_norm(prototype, dim=2))[0].gather(1, own)
    return length, prototype, (product * _inverse(length)[0] * small).masked_fill_(~inside, 0)


def _gradient(
    feature: Tensor, member: Tensor, size: Tensor, length: Tensor, prototype: Tensor, cosine: Tensor, slope: Tensor
) -> Tensor:
    """Of ``sum(slope * cosine)`` to the feature (N, C, P): directly, and through the prototypes."""
    (short, bends), (small, turns) = _inverse(length), _inverse(torch.linalg.vector_norm(prototype, dim=2))
    scale, direction = (slope * short)[:, None], prototype * small[..., None]
    to_prototype = (member * scale) @ feature.transpose(1, 2)
    to_prototype -= direction * ((direction * to_prototype).sum(2) * turns)[..., None]
    to_prototype *= small[..., None] / size
    out = feature * (-slope * cosine * short.square() * bends)[:, None]
    out.baddbmm_(to_prototype.transpose(1, 2), member)
    return out.baddbmm_(direction.transpose(1, 2), member.mul_(scale))


@LOSSES.register("ifvd")
class IntraClassVariation(DistillationLoss):
    """``intra_class_variation`` with its classes; tap: the head's feature before the classifier (after PSP or ASPP).

    Published for Cityscapes, on maps of 1/8: weight 200 beside pixel-wise KD and an adversarial term (the authors), 20
    beside both (CIRKD). Times the labelled share (about 0.9 with Cityscapes' void), this is the weight here. The label
    comes at the features' size (a bind resizes it); published code needs equal sizes and resizes to the nearest.

    A batch repeated twice and a map tiled 2 x 2 give the same value. Pixels and prototypes below 1e-4 fade out.

    >>> import torch
    >>> feature, label = torch.randn(2, 8, 6, 10), torch.randint(0, 19, (2, 6, 10))
    >>> float(IntraClassVariation()(feature, 3 * feature, label)) < 1e-6
    True
    """

    # labelled: the share of the N * H * W pixels that bear a class. The others count in the published mean, where they
    # add nothing: there the loss shrinks with the void's area.
    published_scale = {"ifvd": "labelled", "cirkd": "labelled"}

    any_channels = True

    def __init__(self, num_classes: int = 19, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.num_classes = integer(num_classes, "num_classes", NAME)
        self.ignore_index = integer(ignore_index, "ignore_index", NAME, least=None)

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
        """Features (N, C, H, W) of both sides, label (N, H, W) -> scalar; ``image`` and ``draw`` are not used."""
        if label is None:
            raise UserError(f"{NAME} needs the labels, which tell the pixels' prototypes")
        s, t = single(student, NAME), single(teacher, NAME)
        return intra_class_variation(s, t, label, self.num_classes, self.ignore_index, valid)

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}, ignore_index={self.ignore_index}"
