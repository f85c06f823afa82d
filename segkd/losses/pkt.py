"""Probabilistic knowledge transfer (Passalis and Tefas, ECCV 2018, arXiv 1803.10837): the divergence (equation 8)
of conditional probabilities (equations 3 and 4), with the kernel of the cosine similarity (equation 6)."""

from __future__ import annotations

import torch
from torch import Tensor

from segkd.arguments import positive
from segkd.errors import UserError
from segkd.losses.base import LOSSES, no_autocast, upcast
from segkd.losses.gram import gram
from segkd.losses.relation import RelationLoss
from segkd.losses.sampling import IGNORE_INDEX
from segkd.losses.similarity import FAINT

NAME = "ProbabilisticTransfer"


def probabilistic_transfer(student: Tensor, teacher: Tensor, eps: float = 1e-7) -> Tensor:
    """``mean over samples i of sum over j of p_ij(teacher) * log((p_ij(teacher) + eps) / (p_ij(student) + eps))``.

    ``p_ij = k_ij / sum over j of k_ij`` with the kernel ``k_ij = (1 + cos(x_i, x_j)) / 2``: how probable sample j is as
    a neighbour of sample i. The sum over i and j is the paper's; like its authors' code, it takes a sample as its own
    neighbour too. A vector without direction (shorter than 1e-4) has cosine 0 with every one, and no gradient.

    Args:
        student, teacher: a row for each sample, (M, D) with M >= 1, any D on either side; the teacher is detached.
        eps: added to probabilities, and to norms.

    Returns:
        A scalar of at least float32. It is 0 where the cosines are alike, as for one sample alone.

    Raises:
        UserError: not two dimensions, unequal numbers of samples, or an eps that is not above 0.
    """
    if student.dim() != 2 or teacher.dim() != 2 or len(student) != len(teacher):
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise UserError(f"{NAME} takes a row for each sample, as many on both sides, got {shapes}")
    positive(eps, "eps", NAME)
    with no_autocast(student):
        p_s = _neighbours(upcast(student), eps)
        p_t = _neighbours(upcast(teacher.detach()), eps)
        return (p_t * ((p_t + eps) / (p_s + eps)).log()).sum() / len(p_s)


def _neighbours(rows: Tensor, eps: float) -> Tensor:
    """(M, D) -> probabilities (M, M), each row of sum 1."""
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    unit = rows * torch.where(norm > FAINT, 1 / (norm + eps), 0)
    twice = (gram(unit[None])[0] + 1).relu()  # rounding may take a cosine below -1
    return twice / twice.sum(1, keepdim=True)


@LOSSES.register("pkt")
class ProbabilisticTransfer(RelationLoss):
    """``probabilistic_transfer`` of samples; tap: a deep feature (N, C, H, W) of any channels, without a connector.

    Published for classification and retrieval alone, on the vector before the classifier of whole images
    (``samples="batch"``); RepDistiller's weight 30000 is 30000 / (images in the batch) in this reduction:
    ``published_scale`` converts. A batch repeated twice gives the same value, as does a map tiled 2 x 2 if all its
    pixels (or regions) are samples, with one exception: ``eps`` stays as it is while probabilities shrink as 1 / M,
    which is up to 1e-4 of the value where vectors are opposite. The published code has a gradient of NaN at zero
    vectors, which pixels behind a ReLU can be.

    >>> import torch
    >>> feature = torch.randn(2, 8, 6, 10)
    >>> loss = ProbabilisticTransfer(count=16)
    >>> draw = loss.sample((2, 8, 6, 10), seed=0)
    >>> float(loss(feature, feature, draw=draw))
    0.0
    """

    published_scale = {
        "repdistiller": "1 / N",  # mean over all N^2 pairs of samples: 30000 becomes 30000 / N, 469 for batches of 64
        "paper": "N",  # sum over them
    }

    def __init__(
        self,
        eps: float = 1e-7,
        samples: str = "pixels",
        count: int = 128,
        num_classes: int | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(samples, count, num_classes, ignore_index)
        self.eps = positive(eps, "eps", NAME)

    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        return probabilistic_transfer(student, teacher, self.eps)

    def extra_repr(self) -> str:
        return f"eps={self.eps:g}, {super().extra_repr()}"
