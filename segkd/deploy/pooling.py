"""Adaptive average pooling as two constant matrices, so that an exported graph has nothing but matrix products.

Adaptive pooling of X (H, W) to a grid (h, w) averages windows of unequal size: row i of the grid covers rows
floor(i H / h) .. ceil((i + 1) H / h) - 1. That is linear and separable, hence exactly ``P_h X P_w^T`` with
P_h (h, H) holding 1 / window length in each window. Fixed-kernel average pools are not equal: 16 rows in 6 bins have
windows of 3, 4, 3, 3, 4, 3 rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

BUFFER_PREFIX = "pooling_"
_POOLS = {F.adaptive_avg_pool2d, torch._C._nn.adaptive_avg_pool2d}


def pooling_matrix(length: int, bins: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """P (bins, length): row i averages positions floor(i length / bins) .. ceil((i + 1) length / bins) - 1."""
    matrix = torch.zeros(bins, length, dtype=dtype)
    for i in range(bins):
        start, end = i * length // bins, -(-(i + 1) * length // bins)
        matrix[i, start:end] = 1 / (end - start)
    return matrix


class MatrixPooling(nn.Module):
    """A network whose adaptive average pools, at one input size, run as matrix products.

    Every call of adaptive average pooling to a grid larger than 1 x 1 is meant, by module (``nn.AdaptiveAvgPool2d``)
    or by function; the matrices come from one forward pass of ``example`` and are buffers here. The network itself is
    not changed. Pooling to 1 x 1 is a plain mean and stays.

    Args:
        network: any module that takes one tensor.
        example: an input (N, C, H, W) of the size the matrices are for; other sizes then fail.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.network = network
        recorder = _Recorder()
        with torch.no_grad(), recorder:
            network(example)
        for axis, length, bins in sorted(recorder.seen):
            matrix = pooling_matrix(length, bins).to(example.device)
            self.register_buffer(_name(axis, length, bins), matrix if axis == 0 else matrix.t().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        with _Replacer(self):
            output: Tensor = self.network(x)
        return output


def _name(axis: int, length: int, bins: int) -> str:
    """Name of a buffer, and so of a constant in the exported graph; axis 0 = rows, P_h; axis 1 = columns, P_w^T."""
    return f"{BUFFER_PREFIX}{'rows' if axis == 0 else 'columns'}_{length}_to_{bins}"


class _PoolMode(TorchFunctionMode):
    """Calls ``pool(x, (h, w))`` in place of adaptive average pooling to a grid > 1; other calls go through."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _POOLS:
            x, grid = _arguments(*args, **(kwargs or {}))
            if grid != (1, 1):
                return self.pool(x, grid)
        return func(*args, **(kwargs or {}))

    @abstractmethod
    def pool(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """X (N, C, H, W) -> (N, C, *grid)."""


def _arguments(input: Tensor, output_size: Any) -> tuple[Tensor, tuple[int, int]]:
    """The input and its grid; None in the grid means the input's own size, one number means a square."""
    pair = tuple(output_size) if isinstance(output_size, tuple | list) else (output_size, output_size)
    height, width = (input.shape[i - 2] if pair[i] is None else int(pair[i]) for i in (0, 1))
    return input, (height, width)


class _Recorder(_PoolMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, int, int]] = set()  # (axis, length, bins)

    def pool(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        self.seen.update((axis, int(x.shape[axis - 2]), grid[axis]) for axis in (0, 1))
        return F.adaptive_avg_pool2d(x, grid)


class _Replacer(_PoolMode):
    def __init__(self, owner: MatrixPooling) -> None:
        super().__init__()
        self.owner = owner

    def pool(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        rows, columns = (getattr(self.owner, _name(i, x.shape[i - 2], grid[i])).to(x.dtype) for i in (0, 1))
        # columns first: one plain product over (N C H, W), and less left to do for the rows
        return torch.matmul(rows, torch.matmul(x, columns))
