"""Inner products of batched rows, in full precision both ways."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from segkd.losses.base import no_autocast


def gram(a: Tensor, b: Tensor | None = None) -> Tensor:
    """(N, A, P) and (N, B, P) -> (N, A, B), the product of every row with every row; ``b`` None takes ``a`` twice.

    A backward pass inside autocast would cast torch's own product to half; this one stays in the inputs' precision.
    """
    product: Tensor = _Product.apply(a, b)
    return product


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, b: Tensor | None) -> Tensor:
        ctx.save_for_backward(a) if b is None else ctx.save_for_backward(a, b)
        with no_autocast(a):
            return torch.bmm(a, (a if b is None else b).transpose(1, 2))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, *rest = ctx.saved_tensors  # type: ignore[attr-defined]
        wanted = ctx.needs_input_grad  # type: ignore[attr-defined]
        with no_autocast(grad):
            if not rest:
                return torch.bmm(grad + grad.transpose(1, 2), a), None
            to_a = torch.bmm(grad, rest[0]) if wanted[0] else None
            to_b = torch.bmm(grad.transpose(1, 2), a) if wanted[1] else None
            return to_a, to_b
