"""Flow of solution procedure: how two layers of a network go together (Yim et al., CVPR 2017; not on arXiv)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.losses.base import (
    COMPARED,
    LOSSES,
    DistillationLoss,
    Tensors,
    mean_over,
    no_autocast,
    resized_mask,
    same_shape,
    upcast,
)
from segkd.losses.gram import gram

NAME = "FlowOfSolution"
Pair = tuple[Tensor, Tensor]


def flow_of_solution(student: Pair, teacher: Pair, valid: Tensor | None = None) -> Tensor:
    """``mean over samples, C1 and C2 of (G(student) - G(teacher))^2``, G the FSP matrix of a pair of maps.

    ``G(a, b) = mean over positions of a_i * b_j`` (the paper's equation 1), a matrix C1 x C2 per sample, made by one
    batched product: the textbook's C1 x C2 x H x W products never exist. Maps of a pair that differ in size meet at
    the smaller height and the smaller width, averaged by area.

    Args:
        student, teacher: an earlier and a later feature, (N, C1, H1, W1) and (N, C2, H2, W2), alike on both sides;
            the teacher is detached.
        valid: (N, h, w) of any size (brought to the pair's size, nearest): false positions are left out of the means. A
            sample without any valid position is not counted; with none at all the value is 0.

    Returns:
        A scalar of at least float32, 0 where both sides have the same G. Its gradient grows with the cube of the
        features; where float16 features of some thousand would make it infinite, the whole gradient of that feature is
        scaled down to the largest finite one.

    Raises:
        UserError: not two maps (N, C, H, W) of one N a side, unequal shapes, or a mask of another N.
    """
    _check(student, teacher)
    n = student[0].shape[0]
    mask = None if valid is None else resized_mask(valid, n, _size(*student), NAME).flatten(1)
    with no_autocast(student[0]):
        g_s = fsp_matrix(_finite_gradient(student[0]), _finite_gradient(student[1]), mask)
        g_t = fsp_matrix(upcast(teacher[0].detach()), upcast(teacher[1].detach()), mask)
        total = (g_s - g_t).square().mean((1, 2)).sum()
        return total / n if mask is None else mean_over(total, mask.any(1).sum())


def fsp_matrix(first: Tensor, second: Tensor, mask: Tensor | None = None) -> Tensor:
    """(N, C1, H1, W1), (N, C2, H2, W2) -> (N, C1, C2), means of a_i * b_j over (valid) positions; mask (N, P)."""
    size = _size(first, second)
    a, b = (x if tuple(x.shape[-2:]) == size else F.adaptive_avg_pool2d(x, size) for x in (first, second))
    a, b = a.flatten(2), b.flatten(2)
    if mask is None:
        return gram(a, b) / a.shape[2]
    product = gram(a.masked_fill(~mask[:, None], 0), b.masked_fill(~mask[:, None], 0))
    return product / mask.sum(1).clamp_min(1)[:, None, None]


def _size(first: Tensor, second: Tensor) -> tuple[int, int]:
    """(H, W) where a pair meets: the smaller height and the smaller width."""
    return min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3])


def _finite_gradient(x: Tensor) -> Tensor:
    """``x`` raised; a gradient that float16 cannot hold is scaled down as a whole before it returns to ``x``."""
    raised = upcast(x)
    if x.dtype == torch.float16 and raised.requires_grad:
        largest = torch.finfo(torch.float16).max
        raised.register_hook(lambda g: g * (largest / g.abs().amax().clamp_min(largest)))  # type: ignore[no-untyped-call]
    return raised


def _check(student: Pair, teacher: Pair) -> None:
    for side in (student, teacher):
        shapes = [tuple(x.shape) for x in side]
        if any(len(shape) != 4 or shape[0] != student[0].shape[0] for shape in shapes):
            raise UserError(f"{NAME} takes pairs of features (N, C, H, W) with one N, got {shapes[0]} and {shapes[1]}")
    for s, t in zip(student, teacher, strict=True):
        same_shape(s, t, NAME)


@LOSSES.register("fsp")
class FlowOfSolution(DistillationLoss):
    """``flow_of_solution`` of neighbouring taps; taps: two or more features a side, from early to late.

    Each tap makes a pair with the next one (three taps: two pairs) and the pairs are averaged; publications add them
    up. Source: Yim et al., "A Gift from Knowledge Distillation", CVPR 2017, equations 1 and 2. Published: the first and
    the last feature of each stage, in a first stage that starts the student (RepDistiller: 30 epochs of the plain sum,
    then weight 0: the 50 of its command line never acts); there is no published use for segmentation. For that way give
    the bind ``first_stage=dict(steps=..., optimizer=...)`` and ``weight=0``; as a term beside the others it works as
    well. Channels must agree tap by tap: tap layers with equal channels, or add ``connector=dict(type=Conv1x1)``.

    A batch repeated twice and maps tiled 2 x 2 give the same value.

    >>> import torch
    >>> early, late = torch.randn(2, 8, 12, 20), torch.randn(2, 16, 6, 10)
    >>> float(FlowOfSolution()((early, late), (early, late)))
    0.0
    """

    # C1 and C2 are the channels of the earlier and the later feature, the same for all pairs. RepDistiller pools the
    # higher map to a square of the lower one's height, which fails on maps that are not square. torchdistill's FSP is
    # another function: a sum of L2 norms over rows of max-pooled maps, not a mean of squares.
    published_scale = {
        "repdistiller": "pairs",  # mean over N, C1, C2, added over pairs of taps; its weight becomes their number
        "paper": "C1 * C2 * pairs",  # sum over C1, C2, mean over N, added over pairs
    }

    usual_rms = COMPARED

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
        """Two or more features (N, C_i, H_i, W_i) a side -> scalar; ``label``, ``image`` and ``draw`` are not used."""
        sides = [(x,) if isinstance(x, Tensor) else x for x in (student, teacher)]
        taps = [len(side) for side in sides]
        if min(taps) < 2 or taps[0] != taps[1]:
            raise UserError(
                f"{NAME} compares pairs of layers: list two or more taps a side in the bind, as many of both, "
                f"got {taps[0]} and {taps[1]}"
            )
        pairs = [list(zip(side[:-1], side[1:], strict=True)) for side in sides]
        terms = [flow_of_solution(s, t, valid) for s, t in zip(*pairs, strict=True)]
        return torch.stack(terms).mean()
