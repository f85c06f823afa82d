"""Relations between vectors by their similarity, compared between student and teacher without holding them whole."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from segkd.losses.sampling import gather_rows

FAINT = 1e-4  # shorter vectors count as zero: a gradient by 1 / length would be more than half precision holds
BLOCK = {"cpu": 2**18, "other": 2**24}  # similarities held at a time


def unit(rows: Tensor, shortest: float = FAINT) -> Tensor:
    """(M, D) -> rows of unit length; zero, without gradient, where a row is shorter and so has no direction."""
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows * torch.where(norm > shortest, 1 / norm.clamp_min(shortest), 0)


def relation_kl(
    student: Tensor, teacher: Tensor, memory: Tensor | None, sizes: list[int], temperature: float
) -> Tensor:
    """``sum over rows i and groups g of columns of KL(softmax_g(t_i . t_j / T) || softmax_g(s_i . s_j / T))``, j in g.

    The similarities are never held whole, nor for the backward pass: they are made in blocks of rows, each of which
    adds to the gradient at once.

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
        wanted = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        rows_grad = torch.zeros_like(student) if wanted else None
        columns_grad = torch.zeros_like(columns[0]) if wanted and memory is None else None
        total = _blocks((student / temperature, teacher / temperature), columns, sizes, rows_grad, columns_grad)
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


def _blocks(
    rows: tuple[Tensor, Tensor],
    columns: tuple[Tensor, Tensor],
    sizes: list[int],
    rows_grad: Tensor | None,
    columns_grad: Tensor | None,
) -> Tensor:
    """The sum over (M, D) rows and groups of columns; adds the gradients to ``rows_grad`` and ``columns_grad``."""
    (s, t), total = rows, rows[0].new_zeros(())
    length = max(1, BLOCK.get(s.device.type, BLOCK["other"]) // max(1, *sizes))
    start = 0
    for size in sizes:
        group = slice(start, start + size)
        start += size
        s_columns, t_columns = columns[0][group], columns[1][group]
        for first in range(0, s.shape[0] if size else 0, length):
            block = slice(first, first + length)
            log_s, log_t = F.log_softmax(s[block] @ s_columns.T, 1), F.log_softmax(t[block] @ t_columns.T, 1)
            p_t = log_t.exp()
            total += torch.dot(p_t.flatten(), log_t.sub_(log_s).flatten())
            if rows_grad is not None:
                difference = log_s.exp_().sub_(p_t)
                rows_grad[block].addmm_(difference, s_columns)
                if columns_grad is not None:
                    columns_grad[group].addmm_(difference.T, s[block])
    return total
