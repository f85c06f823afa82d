"""Sums over independent vectors, made together with their gradient in blocks that stay in a processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from segkd.losses.base import no_autocast, upcast

#: numbers of one side in a block, on a CPU: a few of such maps fit the last level of its cache. With smaller ones
#: torch's threads wait for each other more often: on a machine with other work that costs more than the cache gives
BLOCK = 2**21
POSITIONS, CHANNELS, SAMPLES = 2, 1, 0

#: student, teacher (n, k, p) in at least float32 and contiguous, what else was given (n, p) -> scalar
Term = Callable[..., Tensor]


def blockwise_sum(
    term: Term, student: Tensor, teacher: Tensor, *others: Tensor | None, along: int = POSITIONS, numbers: int = 0
) -> Tensor:
    """``term(student, teacher, *others)`` of whole maps, for a term that is a sum over vectors independent of others.

    On a CPU every block's gradient is made right after its value, by autograd, while all that it needs is in the cache:
    at an image's full size that takes less than half the time of a few passes over whole maps, and nothing but the
    gradient is held for the backward pass. Elsewhere the term sees whole maps.

    Args:
        term: a function of maps (n, k, p) of both sides and of the others (n, p); without parameters of its own.
        student, teacher: (N, K) or (N, K, ...), one shape; the teacher is detached.
        others: (N, ...) for each position, masks or labels; None is handed over as it is.
        along: what a sample may be cut along, ``POSITIONS`` or ``CHANNELS``: that over which the term is a sum. None is
            cut with ``SAMPLES``.
        numbers: that the term makes of a sample at a time, where these are more than its own; sets how many are taken.

    Returns:
        A scalar of at least float32. With ``create_graph`` there is a RuntimeError: its gradient has none.
    """
    maps = [_flat(x) for x in (student, teacher.detach())]
    rest = [None if x is None else x.reshape(maps[0].shape[0], -1) for x in others]
    with no_autocast(student):
        if student.device.type != "cpu":
            return term(*(upcast(x).contiguous() for x in maps), *rest)
        value: Tensor = _Blockwise.apply(maps[0], maps[1], term, rest, along, numbers)
        return value


def _flat(x: Tensor) -> Tensor:
    """(N, K, ...) -> (N, K, P); rows (N, K) are the positions of one sample, (1, K, N)."""
    return x.flatten(2) if x.dim() > 2 else x.T[None]


def parts(student: Tensor, teacher: Tensor, *others: Tensor | None) -> Iterator[list[Any]]:
    """What the term of a ``blockwise_sum`` along positions gets, block by block, without a gradient: for what is to be
    known of whole maps beforehand."""
    maps = [_flat(x.detach()) for x in (student, teacher)]
    rest = [None if x is None else x.reshape(maps[0].shape[0], -1) for x in others]
    on_cpu = student.device.type == "cpu"
    for place in _blocks(maps[0].shape, POSITIONS) if on_cpu else [(slice(None),) * 3]:
        yield [
            *(upcast(x[place]).contiguous() for x in maps),
            *(None if x is None else x[place[0], place[2]] for x in rest),
        ]


def _blocks(shape: torch.Size, along: int, made: int = 0) -> Iterator[tuple[slice, slice, slice]]:
    """Places in (N, K, P) of several samples together, or, of larger ones, of a part of one."""
    n, whole = shape[0], slice(None)
    numbers = max(1, made, shape[1] * shape[2])
    if numbers <= BLOCK or along == SAMPLES:
        several = max(1, BLOCK // numbers)
        yield from ((slice(i, i + several), whole, whole) for i in range(0, n, several))
        return
    length = max(1, BLOCK * shape[along] // numbers)
    for i in range(n):
        for start in range(0, shape[along], length):
            part = slice(start, start + length)
            yield (slice(i, i + 1), whole, part) if along == POSITIONS else (slice(i, i + 1), part, whole)


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        student: Tensor,
        teacher: Tensor,
        term: Term,
        others: list[Tensor | None],
        along: int,
        made: int,
    ) -> Tensor:
        wanted: bool = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        dtype = torch.promote_types(student.dtype, torch.float32)
        grad = torch.empty(student.shape, dtype=dtype, device=student.device) if wanted else None
        total = torch.zeros((), dtype=torch.float64)
        for place in _blocks(student.shape, along, made):
            # contiguous: in channels_last, torch's softmax over few classes is 2.5 times slower
            s, t = (upcast(x[place]).contiguous() for x in (student, teacher))
            rest = [None if x is None else x[place[0], place[2]] for x in others]
            with torch.set_grad_enabled(wanted):
                s = s.detach().requires_grad_(wanted)
                value = term(s, t, *rest)
            if grad is not None:
                grad[place] = torch.autograd.grad(value, s)[0]
            total += value.detach()
        if grad is not None:
            ctx.save_for_backward(grad)
        ctx.dtype = student.dtype  # type: ignore[attr-defined]
        return total.to(dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the gradient of a sum in blocks can't be differentiated: take it without create_graph")
        (grad,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return (grad * slope).to(ctx.dtype), *[None] * 5  # type: ignore[attr-defined]


def zeroed(x: Tensor, counted: Tensor) -> Tensor:
    """(n, k, p) with 0 at the positions that do not count (n, p), even for inf or NaN.

    On a CPU a product takes a quarter of ``masked_fill``'s time both ways, and will do unless something is not finite.
    """
    if x.device.type == "cpu":
        product = x * counted[:, None]
        if bool(product.detach().sum().isfinite()):
            return product
    return x.masked_fill(~counted[:, None], 0)
