"""Pair-wise distillation of structured knowledge (Liu et al., CVPR 2019, arXiv 1903.04197, section 3.1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from segkd.arguments import flag
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

NAME = "PairWise"
EPS = 1e-8  # added to a length that is taken as a constant, as published
FAINT = 1e-4  # vectors shorter than this fade out instead of being blown up to unit length

Pool = tuple[str, float] | None


def pair_wise(
    student: Tensor,
    teacher: Tensor,
    pool: Pool = None,
    detach_norm: bool = True,
    valid: Tensor | None = None,
) -> Tensor:
    """``mean over samples and pairs of nodes (i, j) of (cos(s_i, s_j) - cos(t_i, t_j))^2`` (equation 2).

    Nodes are the pixels, or the cells of a max pooling. The similarities (N, P, P) are never made where P > C: with
    unit vectors as rows of S and T, ``S S' - T T' = (D M' + M D') / 2`` for D = S - T, M = S + T, whose square needs
    C x C products alone and is exact near S = T.

    Args:
        student, teacher: features (N, C, H, W) of one N, H, W, any C on either side; the teacher is detached.
        pool: None; ("scale", fraction): cells of int(fraction * H) x int(fraction * W); ("kernel", k): of k x k. Cells
            do not overlap; the last ones of a row or column may be smaller (ceil_mode).
        detach_norm: take the vectors' lengths as constants in the gradient.
        valid: (N, H, W), true where a pixel takes part; None takes all. A cell is the maximum of its valid pixels. A
            sample without any valid pixel is not counted; with none at all the value is 0.

    Returns:
        A scalar of at least float32, from 0 to 4. It is 0 where both sides relate their nodes alike.

    Raises:
        UserError: not four dimensions, unequal N, H or W, a mask of another shape, or an unknown ``pool``.
    """
    if student.dim() != 4 or teacher.dim() != 4 or student.shape[0::2] != teacher.shape[0::2] or (
        student.shape[3] != teacher.shape[3]
    ):  # fmt: skip
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise UserError(f"{NAME} takes features (N, C, H, W) of one N, H and W on both sides, got {shapes}")
    n, _, h, w = student.shape
    cell = cell_of(pool, h, w)
    mask = valid_mask(valid, (n, h, w), NAME)
    with no_autocast(student):
        s, t = (_nodes(x, cell, mask) for x in (student, teacher.detach()))
        counted = mask
        if mask is not None and cell != (1, 1):
            counted = F.max_pool2d(mask[:, None].float(), cell, ceil_mode=True)[:, 0] > 0
        total: Tensor = _PairWise.apply(s, t, counted, detach_norm)
        return total / n if mask is None else mean_over(total, mask.flatten(1).any(1).sum())


def cell_of(pool: Pool, height: int, width: int) -> tuple[int, int]:
    """Height and width of the cells that ``pool`` makes of a map."""
    if pool is None:
        return 1, 1
    kind, size = check_pool(pool)
    if kind == "kernel":
        return min(int(size), height), min(int(size), width)
    return max(1, int(size * height)), max(1, int(size * width))


def check_pool(pool: Any) -> tuple[str, float]:
    """("scale", 0 < fraction <= 1) or ("kernel", integer from 1), also as a list; else a UserError."""
    if isinstance(pool, tuple | list) and len(pool) == 2:
        kind, size = pool
        number = isinstance(size, int | float) and not isinstance(size, bool)
        if kind == "scale" and number and 0 < size <= 1:
            return "scale", float(size)
        if kind == "kernel" and number and 1 <= size < float("inf") and size == int(size):
            return "kernel", float(size)
    raise UserError(f'{NAME}: pool is None, ("scale", 0.5) or ("kernel", 2), got {pool!r}')


def _nodes(x: Tensor, cell: tuple[int, int], mask: Tensor | None) -> Tensor:
    """(N, C, H, W) -> nodes (N, C, h, w); what the mask leaves out is 0, or below all else in a cell."""
    if mask is not None:
        left_out = 0.0 if cell == (1, 1) else torch.finfo(x.dtype).min
        x = x.masked_fill(~mask[:, None], left_out)
    return x if cell == (1, 1) else F.max_pool2d(upcast(x), cell, ceil_mode=True)


class _PairWise(torch.autograd.Function):
    """Sum over samples of the mean over pairs; makes the gradient in the forward pass, sample by sample."""

    @staticmethod
    def forward(ctx: FunctionCtx, student: Tensor, teacher: Tensor, mask: Tensor | None, detach_norm: bool) -> Tensor:
        wanted = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        grad = torch.empty_like(student) if wanted else None
        terms = []
        for n in range(student.shape[0]):
            counted = None if mask is None else mask[n].flatten()
            s, scale = _unit(student[n], counted, EPS if detach_norm else 0)
            t, _ = _unit(teacher[n], counted, EPS if detach_norm else 0)
            nodes = s.shape[1] if counted is None else counted.sum().clamp_min(1).to(s.dtype)
            value, slope = _squared_difference(s, t)
            terms.append(value / nodes**2)
            if grad is not None:
                if not detach_norm:
                    # unit vectors do not see a change of length; faint ones are not unit vectors
                    slope -= s * ((s * slope).sum(0) * (scale * FAINT < 1))
                grad[n] = (slope.mul_(scale).mul_(4 / nodes**2)).view(grad.shape[1:])
        ctx.grad = grad  # type: ignore[attr-defined]
        return torch.stack(terms).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return (grad * ctx.grad), None, None, None  # type: ignore[attr-defined]


def _unit(feature: Tensor, counted: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """(C, h, w) -> vectors (C, P) of unit length, 0 where not counted; and 1 / (length + eps) (P,)."""
    vectors = upcast(feature.flatten(1))
    scale = 1 / (torch.linalg.vector_norm(vectors, dim=0).clamp_min(FAINT) + eps)
    if counted is not None:
        vectors, scale = vectors.masked_fill(~counted, 0), scale * counted
    return vectors * scale, scale


def _squared_difference(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (C_s, P) and (C_t, P) -> squared Frobenius norm of E = s's - t't (P, P), and s E (C_s, P)."""
    channels, nodes = s.shape
    if nodes <= max(channels, t.shape[0]):
        difference = s.T @ s - t.T @ t
        return difference.square().sum(), s @ difference
    if t.shape[0] < channels:
        t = F.pad(t, (0, 0, 0, channels - t.shape[0]))
    wide = F.pad(s, (0, 0, 0, t.shape[0] - channels))
    d, m = wide - t, wide + t
    dd, mm, md = d @ d.T, m @ m.T, m @ d.T
    value = ((dd * mm).sum() + (md * md.T).sum()).clamp_min(0) / 2
    # E = (m'd + d'm) / 2 and s = (m + d) / 2, so that s E = ((mm + dm) d + (md + dd) m) / 4
    slope = (mm[:channels] + md.T[:channels]) @ d
    return value, slope.addmm_(md[:channels] + dd[:channels], m).div_(4)


@LOSSES.register("skd_pair")
class PairWise(DistillationLoss):
    """``pair_wise`` with its pooling; tap: the head's feature before the classifier (after PSP or ASPP).

    ============= ================= ============ ====================================================
    published     pool              detach_norm  weight
    ============= ================= ============ ====================================================
    SKD, master   ("scale", 0.5)    True         0.5 in the script (1 by default; the journal says 10)
    SKD, cvpr_19  None              False        1
    CIRKD         ("kernel", 2)     False        10 (beside KD 1, adversarial 0.001)
    ============= ================= ============ ====================================================

    The default is no row of the table: equation 2 over all pixels, as cvpr_19, with the lengths as constants in the
    gradient, as master. It needs no choice of cells that suits the map's size.

    These are three losses: half the map as a cell leaves 2 x 2 to 3 x 3 nodes, CIRKD's port a quarter of the pixels. In
    the published code a vector of zeros gives NaN (cvpr_19) or gradients up to 1e8; here vectors below 1e-4 fade out.

    A batch repeated twice gives the same value, and so does a map tiled 2 x 2 without pooling, or where the cells of
    "kernel" divide it; with "scale" the cells grow with the map, so that the value changes.

    >>> import torch
    >>> feature = torch.randn(2, 8, 6, 10)
    >>> float(PairWise(pool=("kernel", 2))(feature, 3 * feature)) < 1e-6
    True
    """

    # All average over samples and pairs. They differ in what they pool and in their gradient: see the class's table.
    published_scale = {"skd": "1", "cvpr_19": "1", "cirkd": "1"}

    any_channels = True

    def __init__(self, pool: Pool = None, detach_norm: bool = True) -> None:
        super().__init__()
        self.pool: Pool = None if pool is None else check_pool(pool)
        self.detach_norm = flag(detach_norm, "detach_norm", NAME)

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
        """Features (N, C, H, W) of both sides -> scalar; ``label``, ``image`` and ``draw`` are not used."""
        return pair_wise(single(student, NAME), single(teacher, NAME), self.pool, self.detach_norm, valid)

    def extra_repr(self) -> str:
        return f"pool={self.pool}, detach_norm={self.detach_norm}"
