"""What a data set gives a training or an evaluation, sample by sample, and loaders of their batches."""

from __future__ import annotations

import gc
import importlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from segkd.datasets.base import Array, DataError, Sample, SegmentationDataset
from segkd.datasets.hearing import Hears
from segkd.datasets.order import Draw, MixedSampler, StepSampler
from segkd.datasets.seeds import mix_seed
from segkd.datasets.transforms import TrainTransform
from segkd.datasets.unlabelled import Images
from segkd.errors import UserError
from segkd.views import WHOLE

Transform = Callable[[Array, Array, int], tuple[Array, Array]]
Batch = dict[str, Any]  # tensors
SKIPPED = "skipped"  # of a batch: lines about files in whose place others came
BAD_IN_A_ROW = 100
_PATIENCE = 900  # seconds for one batch; a worker that is stuck becomes an error instead of a run that waits for ever


class Failure(NamedTuple):
    """A user's error on its way out of a worker, whose exceptions torch would wrap in a traceback."""

    message: str


class TrainView(Dataset[Batch | Failure]):
    """A data set seen through a transform: ``Draw`` -> {image (3, H, W) uint8, label (H, W) uint8, index () i64}.

    With ``unlabelled`` images, which are numbered after the pairs, there is ``labelled`` () bool too; the label of an
    image without one is 0 within it and 255 where it was padded. With ``hears`` there is what teachers hear of the
    image in place of the crop. With ``skip_bad`` another draw, fixed by the first, takes the place of one whose file
    cannot be used, and "skipped" has a line for each such file.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: Transform,
        unlabelled: Images | None = None,
        hears: Hears | None = None,
        skip_bad: bool = False,
    ) -> None:
        self.dataset, self.transform, self.unlabelled, self.hears = dataset, transform, unlabelled, hears
        self.skip_bad = skip_bad
        if hears is not None and not hasattr(transform, "with_view"):
            raise UserError(
                f"{type(transform).__name__} does not say where its crops lie on the images (with_view, as of "
                "TrainTransform), which a teacher needs that sees other than the crops"
            )
        if hears is not None and isinstance(transform, TrainTransform):
            transform.check_still()

    def __len__(self) -> int:
        return len(self.dataset) + (0 if self.unlabelled is None else len(self.unlabelled))

    def __getitem__(self, draw: Draw) -> Batch | Failure:
        skipped: list[str] = []
        for number in range(BAD_IN_A_ROW):
            try:
                made = self._made(draw)
            except DataError as error:
                if not self.skip_bad:
                    return Failure(str(error))
                skipped.append(str(error))
                draw = self._in_place_of(draw, number)
            except UserError as error:  # not about a file
                return Failure(str(error))
            else:
                return {**made, SKIPPED: skipped} if self.skip_bad else made
        return Failure(f"{BAD_IN_A_ROW} files one after the other cannot be used, the last of them: {skipped[-1]}")

    def _in_place_of(self, draw: Draw, number: int) -> Draw:
        """Another draw, with a label if that has one, as fixed as that by (seed, step)."""
        count, first = len(self.dataset), 0
        if draw.index >= count:
            count, first = len(self) - count, count
        seed = mix_seed(draw.seed, number)
        return Draw(first + seed % count, mix_seed(seed))

    def _made(self, draw: Draw) -> Batch:
        labelled = draw.index < len(self.dataset)
        sample = self._read(draw.index, by_rows=isinstance(self.transform, TrainTransform) and self.hears is None)
        if isinstance(self.transform, TrainTransform):
            own = self.transform.with_view(*sample, draw.seed, labelled=labelled, partner=self._partner)
            made, view = Sample(own.image, own.label), own.view
        elif self.hears is None:
            made, view = Sample(*self.transform(*sample, draw.seed)), None
        else:
            *pair, view = self.transform.with_view(*sample, draw.seed)  # type: ignore[attr-defined]
            made = Sample(*pair)
        batch = _light(made, draw.index)
        if self.hears is not None and view is not None:
            batch |= self.hears(draw.index, sample.image, view, made.label.shape)
        return batch if self.unlabelled is None else {**batch, "labelled": torch.tensor(labelled)}

    def _read(self, index: int, by_rows: bool = False) -> Sample:
        """A pair by its number, its image ``by_rows`` where that is possible; an unusable file is a DataError."""
        try:
            if self.unlabelled is None or index < len(self.dataset):
                can = by_rows and isinstance(self.dataset, SegmentationDataset)  # else it is only like one of ours
                return self.dataset.by_rows(index) if can else Sample(*self.dataset[index])
            image = self.unlabelled[index - len(self.dataset)]
        except UserError as error:
            raise DataError(str(error)) from error
        return Sample(image, np.zeros(image.shape[:2], np.uint8))

    def _partner(self, seed: int) -> tuple[Array, Array]:
        """A pair with a label, as likely as every other."""
        return self._read(seed % len(self.dataset), by_rows=True)


class EvalView(Dataset[Batch | Failure]):
    """A data set as it is, at native size: index -> {image (3, H, W) uint8, label (H, W) uint8, index () i64}."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch | Failure:
        try:
            return _light(self.dataset[index], index)
        except UserError as error:
            return Failure(str(error))


class Loader(DataLoader[Any]):
    """A DataLoader out of which a ``Failure`` comes as the UserError that it was, message unchanged.

    Attributes:
        skipped: how often each file's draw was replaced, by what is wrong with it.
    """

    skipped: Counter[str]

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.skipped = Counter()
        for batch in super().__iter__():
            if isinstance(batch, Failure):
                raise DataError(batch.message)
            self.skipped.update(batch.pop(SKIPPED, ()))
            label = batch["label"].long()
            yield {**batch, "label": label.pin_memory() if batch["label"].is_pinned() else label}

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
    skip_bad: bool = False,
) -> Loader:
    """Batches of the steps ``start`` .. ``steps`` - 1 (see ``StepSampler``), loaded by ``workers`` processes.

    There are at most as many processes as cores. Each batch has ``unlabelled_size`` images without labels after those
    with labels, drawn in an order of their own: the labelled ones are those of a training without any. ``hears`` says
    what teachers hear in place of the crops, ``skip_bad`` that others come in the place of files that cannot be used.
    """
    sampler: Any = StepSampler(len(dataset), batch_size, steps, seed, start, rank, world_size)
    if unlabelled is not None:
        own = mix_seed(seed, len(unlabelled))
        others = StepSampler(len(unlabelled), unlabelled_size, steps, own, start, rank, world_size)
        sampler = MixedSampler(sampler, others)
    return Loader(
        TrainView(dataset, transform, unlabelled, hears, skip_bad), batch_sampler=sampler, **loader_options(workers)
    )


def eval_loader(
    dataset: SegmentationDataset, batch_size: int = 1, workers: int = 0, rank: int = 0, world_size: int = 1
) -> Loader:
    """All pairs once over all processes, in order, at native size; a batch above 1 needs images of one size."""
    if len(dataset) < 1:
        raise UserError("the data set is empty: nothing to evaluate")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    own = range(rank, len(dataset), world_size)
    return Loader(EvalView(dataset), batch_size=batch_size, sampler=own, **loader_options(workers))


def to_tensors(sample: Sample, index: int) -> Batch:
    """One pair as tensors, {image (3, H, W) uint8, label (H, W) i64, index () i64}."""
    batch = _light(sample, index)
    return {**batch, "label": batch["label"].long()}


def _light(sample: Sample, index: int) -> Batch:
    """The same with a uint8 label, an eighth of what a worker has to send; the loader makes it i64."""
    height, width, bands = sample.image.shape
    image = np.empty((bands, height, width), np.uint8)
    cv2.split(sample.image, list(image))  # twice as fast as a copy of the transposed array
    label = np.require(sample.label, np.uint8, ["C", "W"])
    return {"image": torch.from_numpy(image), "label": torch.from_numpy(label), "index": torch.tensor(index)}


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
    # In a worker, torch's own function stacks them right in the memory that it shares with the parent.
    stacked: Batch = {key: default_collate([sample[key] for sample in batch]) for key in batch[0] if key != SKIPPED}
    if SKIPPED in batch[0]:
        stacked[SKIPPED] = [line for sample in batch for line in sample[SKIPPED]]
    return stacked


def cores() -> int:
    """How many of the machine's cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def loader_options(workers: int) -> dict[str, Any]:
    """What torch's DataLoader is told for so many workers, at most one a core."""
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
