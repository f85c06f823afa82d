"""Relations between vectors by their similarity, compared between student and teacher without holding them whole."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from segkd.losses.sampling import gather_rows

FAINT = 1e-4  # shorter vectors count as zero: a gradient by 1 / length would be more than half precision holds
BLOCK = {"cpu": 2**20, "other": 2**24}  # similarities worked on at a time
PAIR = 2**24  # similarities of a pair of images that are held whole, of either side
LARGEST = 40.0  # similarity over temperature whose exponentials need no maximum taken off first, in float32


def unit(rows: Tensor, shortest: float = FAINT) -> Tensor:
    """(M, D) -> rows of unit length; zero, without gradient, where a row is shorter and so has no direction."""
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows * torch.where(norm > shortest, 1 / norm.clamp_min(shortest), 0)


def relation_kl(
    student: Tensor, teacher: Tensor, memory: Tensor | None, sizes: list[int], temperature: float
) -> Tensor:
    """``sum over rows i and groups g of columns of KL(softmax_g(t_i . t_j / T) || softmax_g(s_i . s_j / T))``, j in g.

    The similarities are never held whole, nor for the backward pass: they are made in blocks of rows, each of which
    adds to the gradient at once. Where columns are the rows themselves (one process), groups are taken in pairs, each
    of which gives its similarities in both directions: half the work. (Pairs of more than ``PAIR`` are not.)

    Args:
        student, teacher: (M, D) rows of this process, any D on either side; the teacher gets no gradient.
        memory: (E, D) columns of both sides, without gradient; None takes the rows of all processes as columns.
        sizes: how the columns fall into groups, one after the other; they add up to the number of columns.
        temperature: T.

    Returns:
        A scalar over this process's rows. As with gathered rows, the gradient to a row is that of all processes' sum.
    """
    total: Tensor = _RelationKL.apply(student, teacher, memory, sizes, temperature)
    return total


class _RelationKL(torch.autograd.Function):
    """Makes the gradient in the forward pass, where a block's similarities are; processes add theirs up there."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, student: Tensor, teacher: Tensor, memory: Tensor | None, sizes: list[int], temperature: float
    ) -> Tensor:
        columns = (gather_rows(student), gather_rows(teacher)) if memory is None else (memory, memory)
        rows = (student / temperature, teacher / temperature)
        wanted = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        rows_grad = torch.zeros_like(student) if wanted else None
        columns_grad = None
        bounded = _bounded(rows, columns)
        if bounded and memory is None and columns[0] is student and max(sizes, default=0) ** 2 <= PAIR:
            total = _pairs(rows, columns, sizes, rows_grad)
        else:
            columns_grad = torch.zeros_like(columns[0]) if wanted and memory is None else None
            total = _blocks(rows, columns, sizes, rows_grad, columns_grad, bounded)
        if rows_grad is not None:
            rows_grad /= temperature
        if rows_grad is not None and columns_grad is not None:
            rows_grad += _own_rows(columns_grad, student.shape[0])
        ctx.grad = rows_grad  # type: ignore[attr-defined]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        return grad * ctx.grad, None, None, None, None  # type: ignore[attr-defined]


def _own_rows(grad: Tensor, own: int) -> Tensor:
    """The sum over processes of the gradient to all rows -> its part for this process's rows."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return grad
    counts = gather_rows(torch.tensor([own], device=grad.device))
    distributed.all_reduce(grad)
    start = int(counts[: distributed.get_rank()].sum())
    return grad[start : start + own]


def _bounded(rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> bool:
    """True if no similarity can be above ``LARGEST``, by the longest vectors of both sides."""
    longest = [
        torch.linalg.vector_norm(a, dim=1).max() * torch.linalg.vector_norm(b, dim=1).max()
        for a, b in zip(rows, columns, strict=True)
        if a.numel() and b.numel()
    ]
    return bool(longest) and bool(torch.stack([x.double() for x in longest]).max() <= LARGEST)


def _blocks(
    rows: tuple[Tensor, Tensor],
    columns: tuple[Tensor, Tensor],
    sizes: list[int],
    rows_grad: Tensor | None,
    columns_grad: Tensor | None,
    bounded: bool,
) -> Tensor:
    """The sum over (M, D) rows and groups of columns; adds the gradients to ``rows_grad`` and ``columns_grad``."""
    (s, t), total = rows, torch.zeros((), dtype=torch.float64, device=rows[0].device)
    length = max(1, BLOCK.get(s.device.type, BLOCK["other"]) // max(1, *sizes))
    start = 0
    for size in sizes:
        group = slice(start, start + size)
        start += size
        s_columns, t_columns = columns[0][group], columns[1][group]
        for first in range(0, s.shape[0] if size else 0, length):
            block = slice(first, first + length)
            divergence = _of_bounded if bounded else _of_any
            value, difference = divergence(s[block] @ s_columns.T, t[block] @ t_columns.T, rows_grad is not None)
            total += value
            if rows_grad is not None:
                rows_grad[block].addmm_(difference, s_columns)
                if columns_grad is not None:
                    columns_grad[group].addmm_(difference.T, s[block])
    return total.to(s.dtype)


def _of_any(s: Tensor, t: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """Similarities (R, E) -> the sum of the rows' KL, and (if wanted) the probabilities' differences (R, E)."""
    log_s, log_t = F.log_softmax(s, 1), F.log_softmax(t, 1)
    p_t = log_t.exp()
    value = torch.dot(p_t.flatten(), log_t.sub_(log_s).flatten())
    return value, log_s.exp_().sub_(p_t) if wanted else log_s


def _of_bounded(s: Tensor, t: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """The same of ``LARGEST`` or less, with half the exponentials; ``s`` and ``t`` are written over."""
    product = (t - s).mul_(t.exp_())
    s.exp_()
    s_sum, t_sum = s.sum(1), t.sum(1)
    value = _divergence(product.sum(1), s_sum, t_sum)
    return value, s.mul_(1 / s_sum[:, None]).sub_(t.mul_(1 / t_sum[:, None])) if wanted else s


def _divergence(product: Tensor, s_sum: Tensor, t_sum: Tensor) -> Tensor:
    """Sums over columns of e^t (t - s), of e^s and of e^t, for each row -> the sum over rows of their KL."""
    return (product / t_sum + (s_sum / t_sum).log()).sum(dtype=torch.float64)


def _pairs(
    rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], sizes: list[int], grad: Tensor | None
) -> Tensor:
    """The sum where columns are the rows (but for the temperature); adds all of the gradient to ``grad``."""
    total = torch.zeros((), dtype=torch.float64, device=rows[0].device)
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    groups = [slice(start, start + size) for start, size in zip(starts, sizes, strict=True) if size]
    for k, first in enumerate(groups):
        for second in groups[k:]:
            total += _pair(rows, columns, first, second, grad)
    return total.to(rows[0].dtype)


def _pair(
    rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], first: slice, second: slice, grad: Tensor | None
) -> Tensor:
    """Two groups, each of which sees the other; of a group with itself, its rows alone count."""
    (s_rows, t_rows), (s_columns, t_columns) = (
        [x[part] for x in xs] for xs, part in ((rows, first), (columns, second))
    )
    size = (s_rows.shape[0], s_columns.shape[0])
    s, t = s_rows @ s_columns.T, t_rows @ t_columns.T
    sums = s.new_zeros(3, size[0]), s.new_zeros(3, size[1])  # over columns and over rows
    length = max(1, BLOCK.get(s.device.type, BLOCK["other"]) // size[1])
    blocks = [slice(i, i + length) for i in range(0, size[0], length)]  # of what stays in the cache between passes
    for block in blocks:
        product = (t[block] - s[block]).mul_(t[block].exp_())
        for k, x in enumerate((product, s[block].exp_(), t[block])):
            torch.sum(x, 1, out=sums[0][k, block])
            sums[1][k] += x.sum(0)
    if grad is not None:
        (_, s_row, t_row), (_, s_column, t_column) = (1 / x for x in sums)
        for block in blocks:
            # e^s / its sums over columns and rows are both directions' probabilities, which reach the same two vectors
            s[block].mul_(s_row[block, None] + s_column)
            s[block] -= t[block].mul_(t_row[block, None] + t_column)
        grad[first].addmm_(s, s_columns)
        if first != second:
            grad[second].addmm_(s.T, columns[0][first])
    value = _divergence(*sums[0])
    return value if first == second else value + _divergence(*sums[1])
