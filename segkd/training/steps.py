"""Training steps: the same ones for the main training and for the first stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segkd.segmentor import TrainingModel
from segkd.training import processes
from segkd.training.optim import CRITICS, STUDENT, Minimizer
from segkd.training.precision import Precision

Batch = Mapping[str, Tensor]  # image (N, 3, H, W) uint8, label (N, H, W) int64, index (N,) int64
Values = dict[str, Tensor]  # named scalars


@dataclass
class Stretch:
    """Steps that are taken in one go.

    Attributes:
        model: what is trained, on its device.
        losses: what a batch gives: named terms, whose sum is minimised.
        minimizers: "student", and "critic" where the model has one.
        precision: of the forward passes.
        batches: those of the steps from ``start`` on.
        start: how many steps were taken before.
        seed: of the run; each step draws from (seed, step).
        before: called with (step, batch) before each step.
        after: called with (step, batch, values) after it; True ends the stretch.
        parallel: the wrapper through which ``losses`` goes where several processes train together.
    """

    model: TrainingModel
    losses: Callable[[Batch], Values]
    minimizers: Mapping[str, Minimizer]
    precision: Precision
    batches: Iterable[Batch]
    start: int
    seed: int
    before: Callable[[int, Batch], object]
    after: Callable[[int, Batch, Values], bool | None]
    parallel: DistributedDataParallel | None = None


def take_steps(stretch: Stretch) -> None:
    """Take all steps of a stretch, or until one ends it."""
    model, device = stretch.model, next(stretch.model.student.parameters()).device
    for step, batch in enumerate(stretch.batches, stretch.start):
        processes.seed_step(stretch.seed, step)
        model.step, model.seed = step, stretch.seed
        model.train()
        stretch.before(step, batch)
        values = take_step(stretch, on_device(batch, device))
        if stretch.after(step, batch, values):
            return


def on_device(batch: Batch, device: torch.device) -> Batch:
    """A batch on the device that trains."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


def take_step(stretch: Stretch, batch: Batch) -> Values:
    """One step of the student, then, on the same features, one of the critics if there are any; what it logs."""
    student, critic = stretch.minimizers[STUDENT], stretch.minimizers.get(CRITICS)
    with without_grad(critic.parameters() if critic else ()):  # the student's term passes through the critics
        with _gradients_shared(stretch, student.steps_next()), stretch.precision.autocast():
            terms = stretch.losses(batch)
        total = torch.stack([value.reshape(()) for value in terms.values()]).sum()
        student.minimize(total)
    values = {"loss": total.detach(), **{name: value.detach() for name, value in terms.items()}}
    if critic and (own := stretch.model.critic_losses()):
        critic.minimize(torch.stack(list(own.values())).sum())
        values |= {name: value.detach() for name, value in own.items()}
    if student.stepped():
        stretch.precision.update()
    return values


@contextmanager
def without_grad(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """A context in which no gradient reaches these parameters."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _gradients_shared(stretch: Stretch, used: bool) -> AbstractContextManager[None]:
    """Gradients that only accumulate need not be averaged over the processes yet."""
    return stretch.parallel.no_sync() if stretch.parallel and not used else nullcontext()
