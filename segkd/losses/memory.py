"""What losses with a memory share: a queue of the latest vectors of each class."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassQueue(nn.Module):
    """The latest ``size`` vectors of each class: (num_classes, size, dim), filled from slot 0 on, the oldest replaced.

    On every process it holds the same as long as the same is pushed.
    """

    entries: Tensor
    filled: Tensor
    pointer: Tensor

    def __init__(self, num_classes: int, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("entries", torch.zeros(num_classes, size, dim))
        self.register_buffer("filled", torch.zeros(num_classes, dtype=torch.long))
        self.register_buffer("pointer", torch.zeros(num_classes, dtype=torch.long))

    @torch.no_grad()
    def push(self, entries: Tensor, classes: Tensor) -> None:
        """(M, dim) vectors and their classes (M,), the oldest first; of more than ``size`` in a class the last stay."""
        size = self.entries.shape[1]
        order = torch.argsort(classes, stable=True)
        entries, classes = entries[order], classes[order]
        counts = torch.bincount(classes, minlength=self.filled.shape[0])
        place = torch.arange(len(classes), device=classes.device) - (counts.cumsum(0) - counts)[classes]
        kept = place >= counts[classes] - size
        slot = (self.pointer[classes] + place) % size
        self.entries[classes[kept], slot[kept]] = entries[kept].to(self.entries.dtype)
        self.pointer.copy_((self.pointer + counts) % size)
        self.filled.copy_((self.filled + counts).clamp_max(size))

    def pick(self, slots: Tensor, count: int) -> Tensor:
        """The vectors at the first ``count`` filled slots of each class, in the order ``slots`` (size,); (E, dim)."""
        slots = slots.to(self.filled.device)
        filled = slots < self.filled[:, None]
        classes, place = (filled & (filled.cumsum(1) <= count)).nonzero(as_tuple=True)
        return self.entries[classes, slots[place]]
