"""Which samples make the batch of which step: resumable, and the same on any number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from segkd.datasets.seeds import mix_seed
from segkd.errors import UserError


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample of one step: its index in the data set, and the seed of its augmentation."""

    index: int
    seed: int


class StepSampler(Sampler[list[Draw]]):
    """The draws of each step's batch, a fixed function of (seed, step).

    Samples come in a new random order every epoch; nothing is dropped, so a batch may hold the end of one epoch and the
    beginning of the next. With ``start=k`` the batches are those that an uninterrupted run has from step k on.

    Args:
        num_samples: size of the data set.
        batch_size: samples of a step over all processes.
        steps: last step (exclusive); steps count from 0.
        seed: of order and augmentation.
        start: first step.
        rank, world_size: this process takes its equal, contiguous part of every batch.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        steps: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if num_samples < 1:
            raise UserError("the data set is empty: no sample to draw")
        if batch_size < 1 or batch_size % world_size:
            raise UserError(
                f"batch_size must be at least 1 and a multiple of the {world_size} processes, got {batch_size}"
            )
        if not 0 <= rank < world_size:
            raise UserError(f"rank must be in 0..{world_size - 1}, got {rank}")
        if not 0 <= start <= steps:
            raise UserError(f"start must be in 0..steps={steps}, got {start}")
        self.num_samples, self.batch_size, self.steps, self.seed, self.start = (
            num_samples,
            batch_size,
            steps,
            seed,
            start,
        )
        self.share = batch_size // world_size
        self.first = rank * self.share
        self._order: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Draw]]:
        return (self.batch(step) for step in range(self.start, self.steps))

    def batch(self, step: int) -> list[Draw]:
        """The draws of this process at ``step``."""
        begin = step * self.batch_size + self.first
        indices = [self._index(position) for position in range(begin, begin + self.share)]
        return [Draw(index, mix_seed(self.seed, step, index)) for index in indices]

    def _index(self, position: int) -> int:
        epoch, offset = divmod(position, self.num_samples)
        if self._order[0] != epoch:
            generator = np.random.Generator(np.random.PCG64(mix_seed(self.seed, epoch)))
            self._order = (epoch, generator.permutation(self.num_samples).tolist())
        return self._order[1][offset]


class MixedSampler(Sampler[list[Draw]]):
    """The draws of two samplers of equal length in one batch; those of the second are numbered after the first's."""

    def __init__(self, first: StepSampler, second: StepSampler) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[list[Draw]]:
        for ours, theirs in zip(self.first, self.second, strict=True):
            yield [*ours, *(Draw(self.first.num_samples + draw.index, draw.seed) for draw in theirs)]
