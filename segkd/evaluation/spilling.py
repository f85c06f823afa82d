"""Large arrays that wait outside of memory, in temporary files without a name."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkd.errors import UserError

MEMORY = 2**28  # bytes that wait in memory at most
STEPS = 65000  # of a sum of probabilities in a file: 16 bits


class Spilled:
    """An array of zeros in a temporary file that goes with it.

    ``release`` lets go of its memory: the system keeps what was written, as it keeps any file.
    """

    def __init__(self, shape: Sequence[int], kind: type[np.generic]) -> None:
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        with tempfile.TemporaryFile(prefix="segkd-") as file:
            try:
                _reserve(file.fileno(), size)
            except OSError as error:
                raise UserError(
                    f"an image is too large for the memory, and {tempfile.gettempdir()} (TMPDIR) has no "
                    f"{size / 2**30:.1f} GiB for what is known of it: {error.strerror}"
                ) from error
            self.map = mmap.mmap(file.fileno(), size)
        self.array: NDArray[Any] = np.frombuffer(self.map, kind).reshape(shape)

    def release(self) -> None:
        """Let go of its memory."""
        if hasattr(mmap, "MADV_DONTNEED"):  # elsewhere the system does, where memory is short
            self.map.madvise(mmap.MADV_DONTNEED)


def _reserve(handle: int, size: int) -> None:
    """Make a file that large, with room on the disk: a map of one without would end the process where it runs full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:
        os.truncate(handle, size)


class Waiting:
    """Tensors by a key, that are taken, changed in place and kept again; those of a CPU beyond ``memory`` in files."""

    def __init__(self, memory: int = MEMORY) -> None:
        self.room = memory
        self.kept: dict[Hashable, Tensor] = {}
        self.files: dict[Hashable, Spilled] = {}

    def take(self, key: Hashable) -> Tensor | None:
        """The tensor itself; None if there is none."""
        found = self.kept.pop(key, None)
        if found is not None and key not in self.files:
            self.room += found.nbytes
        return found

    def keep(self, key: Hashable, tensor: Tensor) -> None:
        """Keep a new tensor, or one that was taken, until it is taken for the last time."""
        if key not in self.files and tensor.nbytes > self.room and tensor.device.type == "cpu":
            file = self.files[key] = Spilled(tensor.shape, np.float32)
            file.array[...] = tensor.numpy()
            tensor = torch.from_numpy(file.array)
        if key in self.files:
            self.files[key].release()
        else:
            self.room -= tensor.nbytes
        self.kept[key] = tensor

    def forget(self, key: Hashable) -> None:
        """Let go of the file of a tensor that was taken for the last time; who has the tensor still has it."""
        self.files.pop(key, None)


class Sums:
    """Sums of probabilities (N, K, H, W) over the views of an image.

    A file has 16 bits for each: a mean is then right to views / 65000.

    Args:
        views: how many probabilities are added up at each pixel.
    """

    def __init__(self, views: int) -> None:
        self.views = views
        self.tensor: Tensor | None = None
        self.file: Spilled | None = None  # (N, H, W, K): what is near on the image is near in the file

    def add(self, rows: slice, columns: slice, probability: Tensor, size: tuple[int, int]) -> None:
        """Add probabilities (N, K, h, w) of a part of an image of ``size`` (H, W)."""
        if self.tensor is None and self.file is None:
            count, classes = probability.shape[:2]
            if 4 * count * classes * size[0] * size[1] <= MEMORY:
                self.tensor = torch.zeros((count, classes, *size), device=probability.device)
            else:
                self.file = Spilled((count, *size, classes), np.uint16)
        if self.tensor is not None:
            self.tensor[:, :, rows, columns] += probability
        elif self.file is not None:
            steps = (probability * (STEPS / self.views)).round_().permute(0, 2, 3, 1)
            self.file.array[:, rows, columns] += steps.cpu().numpy().astype(np.uint16)
            self.file.release()

    def strips(self, most: int) -> Iterator[tuple[slice, Tensor]]:
        """The sums in strips of rows, of ``most`` bytes each: rows, (N, K, h, W) float32."""
        if self.file is None:
            yield slice(None), self.tensor  # type: ignore[misc]
            return
        count, height, width, classes = self.file.array.shape
        step = max(1, most // (4 * count * classes * width))
        for first in range(0, height, step):
            rows = slice(first, min(first + step, height))
            part = torch.from_numpy(self.file.array[:, rows].astype(np.float32))
            self.file.release()
            yield rows, part.permute(0, 3, 1, 2).contiguous()
