"""Which samples make the batch of which step (resumable, the same on any number of processes), and loaders."""

from __future__ import annotations

import gc
import importlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from segkd.datasets.base import Array, Sample, SegmentationDataset
from segkd.datasets.hearing import Hears
from segkd.datasets.seeds import mix_seed
from segkd.datasets.unlabelled import Images
from segkd.errors import UserError
from segkd.views import WHOLE

Transform = Callable[[Array, Array, int], tuple[Array, Array]]
Batch = dict[str, Tensor]
_PATIENCE = 900  # seconds for one batch; a worker that is stuck becomes an error instead of a run that waits for ever


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample of one step: its index in the data set, and the seed of its augmentation."""

    index: int
    seed: int


class Failure(NamedTuple):
    """A user's error on its way out of a worker, whose exceptions torch would wrap in a traceback."""

    message: str


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


class TrainView(Dataset[Batch | Failure]):
    """A data set seen through a transform: ``Draw`` -> {image (3, H, W) uint8, label (H, W) i64, index () i64}.

    With ``unlabelled`` images, which are numbered after the pairs, there is ``labelled`` () bool too; the label of an
    image without one is 0 within it and 255 where it was padded. With ``hears`` there is what teachers hear of the
    image in place of the crop.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: Transform,
        unlabelled: Images | None = None,
        hears: Hears | None = None,
    ) -> None:
        self.dataset, self.transform, self.unlabelled, self.hears = dataset, transform, unlabelled, hears
        if hears is not None and not hasattr(transform, "with_view"):
            raise UserError(
                f"{type(transform).__name__} does not say where its crops lie on the images (with_view, as of "
                "TrainTransform), which a teacher needs that sees other than the crops"
            )

    def __len__(self) -> int:
        return len(self.dataset) + (0 if self.unlabelled is None else len(self.unlabelled))

    def __getitem__(self, draw: Draw) -> Batch | Failure:
        labelled = draw.index < len(self.dataset)
        try:
            if self.unlabelled is None or labelled:
                sample = self.dataset[draw.index]
            else:
                image = self.unlabelled[draw.index - len(self.dataset)]
                sample = Sample(image, np.zeros(image.shape[:2], np.uint8))
            made = self._made(sample, draw)
        except UserError as error:
            return Failure(str(error))
        return made if self.unlabelled is None else {**made, "labelled": torch.tensor(labelled)}

    def _made(self, sample: Sample, draw: Draw) -> Batch:
        if self.hears is None:
            return to_tensors(Sample(*self.transform(*sample, draw.seed)), draw.index)
        image, label, view = self.transform.with_view(*sample, draw.seed)  # type: ignore[attr-defined]
        heard = self.hears(draw.index, sample.image, view, label.shape)
        return {**to_tensors(Sample(image, label), draw.index), **heard}


class EvalView(Dataset[Batch | Failure]):
    """A data set as it is, at native size: index -> {image (3, H, W) uint8, label (H, W) i64, index () i64}."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch | Failure:
        try:
            return to_tensors(self.dataset[index], index)
        except UserError as error:
            return Failure(str(error))


class Loader(DataLoader[Any]):
    """A DataLoader out of which a ``Failure`` comes as the UserError that it was, message unchanged."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, Failure):
                raise UserError(batch.message)
            yield batch

    def close(self) -> None:
        """Stop the workers. The garbage collector would too, but breaks their queues first and waits 5 s for each."""
        iterator, self._iterator = self._iterator, None
        if self.num_workers and iterator is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]


def train_loader(
    dataset: SegmentationDataset,
    transform: Transform,
    batch_size: int,
    steps: int,
    seed: int,
    start: int = 0,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    unlabelled: Images | None = None,
    unlabelled_size: int = 0,
    hears: Hears | None = None,
) -> Loader:
    """Batches of the steps ``start`` .. ``steps`` - 1 (see ``StepSampler``), loaded by ``workers`` processes.

    There are at most as many processes as cores. Each batch has ``unlabelled_size`` images without labels after those
    with labels, drawn in an order of their own: the labelled ones are those of a training without any. ``hears`` says
    what teachers hear in place of the crops.
    """
    sampler: Any = StepSampler(len(dataset), batch_size, steps, seed, start, rank, world_size)
    if unlabelled is not None:
        own = mix_seed(seed, len(unlabelled))
        others = StepSampler(len(unlabelled), unlabelled_size, steps, own, start, rank, world_size)
        sampler = MixedSampler(sampler, others)
    return Loader(TrainView(dataset, transform, unlabelled, hears), batch_sampler=sampler, **_options(workers))


def eval_loader(
    dataset: SegmentationDataset, batch_size: int = 1, workers: int = 0, rank: int = 0, world_size: int = 1
) -> Loader:
    """All pairs once over all processes, in order, at native size; a batch above 1 needs images of one size."""
    if len(dataset) < 1:
        raise UserError("the data set is empty: nothing to evaluate")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    own = range(rank, len(dataset), world_size)
    return Loader(EvalView(dataset), batch_size=batch_size, sampler=own, **_options(workers))


def to_tensors(sample: Sample, index: int) -> Batch:
    """One pair as tensors."""
    image = torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1)))
    label = torch.from_numpy(sample.label.astype(np.int64))
    return {"image": image, "label": label, "index": torch.tensor(index)}


def collate(samples: Sequence[Batch | Failure]) -> Batch | Failure:
    """Stack samples of one size; a failure among them stands for the batch."""
    batch: list[Batch] = []
    for sample in samples:
        if isinstance(sample, Failure):
            return sample
        batch.append(sample)
    sizes = {tuple(sample["label"].shape) for sample in batch}
    if len(sizes) > 1:
        return Failure(f"images of different sizes in one batch: {sorted(sizes)} (height, width); use batch_size=1")
    whole = {tuple(sample[WHOLE].shape[-2:]) for sample in batch if WHOLE in sample}
    if len(whole) > 1:
        return Failure(
            f"images of different sizes, {sorted(whole)[0]} and {sorted(whole)[-1]} (height, width), cannot be shown "
            "to a teacher as wholes: give a size, data.teacher_view=H,W, or let it answer before, `segkd cache`"
        )
    return {key: torch.stack([sample[key] for sample in batch]) for key in batch[0]}


def cores() -> int:
    """How many of the machine's cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _options(workers: int) -> dict[str, Any]:
    if workers < 0:
        raise UserError(f"workers must be 0 or more, got {workers}")
    workers = min(workers, cores())  # the batches are the same, and torch warns of more
    return {
        "num_workers": workers,
        "collate_fn": collate,
        "pin_memory": torch.cuda.is_available(),
        "persistent_workers": workers > 0,
        "worker_init_fn": _start_worker,
        "timeout": _PATIENCE if workers else 0,
    }


def _start_worker(_worker: int) -> None:
    """Prepare a worker: one thread, as workers are the parallelism; no surprise in the thread that sends batches.

    That thread imports modules at its first tensor. If the garbage collector then finalises what the parent left, and a
    finaliser imports too, CPython 3.11 fails in the import, the batch is lost, and the parent waits for ever. So the
    parent's objects are put beyond the collector's reach, and the imports are made here.

    Ctrl-C reaches every process of a terminal, and SIGTERM a whole group (`timeout`, a cluster): the parent ends its
    workers itself, and must not find them gone. One that it leaves behind ends a minute after a SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(60))  # a parent that swaps or shares its cores takes its time
    gc.freeze()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    reduce_tensor(torch.empty(0))  # type: ignore[no-untyped-call]
    importlib.import_module("multiprocessing.resource_sharer")
