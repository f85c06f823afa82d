"""Which tensors a loss makes, forward and backward: what its time and memory go into."""

from __future__ import annotations

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Made(TorchDispatchMode):
    """Notes the size of every new tensor, and the operation that made it."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and not func.is_view and not func._schema.is_mutable:
            self.tensors.append((func.overloadpacket.__name__, out.numel()))
        return out
