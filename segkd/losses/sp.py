"""Similarity-preserving distillation (Tung and Mori, ICCV 2019, arXiv 1907.09682): the loss between the
row-normalised similarity matrices of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from segkd.errors import UserError
from segkd.losses.base import LOSSES, no_autocast, upcast
from segkd.losses.gram import gram
from segkd.losses.relation import RelationLoss
from segkd.losses.sampling import IGNORE_INDEX
from segkd.losses.similarity import FAINT, unit

NAME = "SimilarityPreserving"
ROUNDING = 1e-6  # products, of rows whose largest number is 1, that are shorter are none


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """``mean over samples i of |g_i(student) - g_i(teacher)|_2^2`` (equation 4, times M).

    ``g_i(F) = row i of F F^T, divided by its L2 norm``: how sample i resembles each of the M.

    Args:
        student, teacher: a row for each sample, (M, D) with M >= 1, any D on either side; the teacher is detached.

    Returns:
        A scalar of at least float32, between 0 and 4. A sample that resembles none (a vector shorter than 1e-4) has a
        zero row, and gets no gradient from it. One sample alone resembles itself: the value is 0.

    Raises:
        UserError: not two dimensions, or unequal numbers of samples.
    """
    if student.dim() != 2 or teacher.dim() != 2 or len(student) != len(teacher):
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise UserError(f"{NAME} takes a row for each sample, as many on both sides, got {shapes}")
    with no_autocast(student):
        s = _products(upcast(student))
        t = _products(teacher.detach().to(s.dtype))
        return (unit(s, ROUNDING) - unit(t, ROUNDING)).square().sum() / len(s)


def _products(rows: Tensor) -> Tensor:
    """(M, D) -> products (M, M) of every row with every row, up to a common factor."""
    # a common factor leaves the result as it is, and keeps products and their squares from overflow and underflow
    rows = rows.where(torch.linalg.vector_norm(rows.detach(), dim=1, keepdim=True) > FAINT, 0)
    rows = rows / rows.detach().abs().amax().clamp_min(FAINT / rows.shape[1] ** 0.5)
    return gram(rows[None])[0]


@LOSSES.register("sp")
class SimilarityPreserving(RelationLoss):
    """``similarity_preserving`` of samples; tap: a deep feature (N, C, H, W) of any channels, without a connector.

    Published for classification alone, after the last convolutions, on whole images (``samples="batch"``) with weight
    3000, in this reduction 3000 / (images in the batch): ``published_scale`` converts. A batch repeated twice gives the
    same value, as does a map tiled 2 x 2 if all its pixels (or regions) are samples.

    >>> import torch
    >>> feature = torch.randn(2, 8, 6, 10)
    >>> loss = SimilarityPreserving(count=16)
    >>> draw = loss.sample((2, 8, 6, 10), seed=0)
    >>> float(loss(feature, feature, draw=draw))
    0.0
    """

    # Both average over all N^2 pairs. The entries of a unit row shrink as the samples grow in number, so their value
    # falls as 1 / N, which this one does not: 3000 becomes 3000 / N, 47 for RepDistiller's batches of 64.
    published_scale = {"repdistiller": "1 / N", "paper": "1 / N"}

    def __init__(
        self,
        samples: str = "pixels",
        count: int = 128,
        num_classes: int | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(samples, count, num_classes, ignore_index)

    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        return similarity_preserving(student, teacher)
