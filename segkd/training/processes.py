"""Several processes for one run, as torchrun starts them: the same batches and results as one process has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from segkd.errors import UserError
from segkd.segmentor import TrainingModel

PATIENCE = timedelta(hours=2)  # of a process that waits for the others


def started_together() -> bool:
    """True if torchrun (or another launcher that sets WORLD_SIZE) started more than one process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    """The number of this process."""
    if joined():
        return distributed.get_rank()
    return int(os.environ.get("RANK", "0")) if started_together() else 0


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if joined() else 1


def joined() -> bool:
    """True if the processes know each other."""
    return distributed.is_available() and distributed.is_initialized()


def is_main() -> bool:
    """True in the process that writes files and prints."""
    return rank() == 0


@contextmanager
def process_group() -> Iterator[None]:
    """A context in which the processes of one launch know each other: NCCL on GPUs, one each; gloo on a CPU."""
    if not started_together() or joined():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        distributed.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    except ValueError as error:  # of its environment variables
        count = os.environ["WORLD_SIZE"]
        raise UserError(
            f"WORLD_SIZE says {count} processes, but they cannot meet ({error}): start them with torchrun, or unset it"
        ) from error
    try:
        yield
    finally:
        distributed.destroy_process_group()


def seed_step(seed: int, step: int) -> None:
    """Seed torch from a run's seed and a step; each process its own, as each has its own part of the batch."""
    torch.manual_seed(seed * 1_000_003 + step + rank() * 1_000_000_007)


def mean(values: Tensor) -> Tensor:
    """The mean of a tensor over the processes."""
    if not joined():
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def means(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The means over all processes of named scalars; every process must ask for the same names."""
    if not values:
        return {}
    found = mean(torch.stack([value.detach().double().reshape(()) for value in values.values()]))
    return dict(zip(values, found.tolist(), strict=True))


def share_buffers(model: nn.Module) -> None:
    """The buffers of the first process for all: statistics of BatchNorm that saw other parts of the batch."""
    if joined():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def synchronised(model: nn.Module) -> nn.Module:
    """BatchNorm over the whole batch instead of a process's part; GPUs only, as torch's has no CPU form."""
    if joined() and torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-any-return, no-untyped-call]
    return model


def parallel(model: nn.Module, apart: Iterable[nn.Parameter] = (), unused: bool = False) -> DistributedDataParallel:
    """``model`` with gradients averaged over the processes; buffers stay each process's own.

    Args:
        model: on its device.
        apart: parameters that other losses train; ``average_gradients`` is for them.
        unused: whether a step may leave parameters without a gradient.
    """
    own = {id(parameter) for parameter in apart}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in own]
    names += [name for name, _ in model.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(model, find_unused_parameters=unused)


def parallel_training(model: TrainingModel, steps: int) -> DistributedDataParallel | None:
    """The wrapper of a training model that averages gradients, with those of its critics; None in one process.

    Called once the parameters lie in memory as they will stay.
    """
    if not joined():
        return None
    synchronised(model)
    critics = model.critic_parameters()
    average_gradients(critics)
    resting = not all(bind.is_on(steps - 1) for bind in model.terms().values())
    return parallel(model, apart=critics, unused=resting)


@contextmanager
def averaged_gradients(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """A context in which gradients that reach these parameters are averaged over the processes at once."""
    handles = average_gradients(parameters)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def average_gradients(parameters: Iterable[nn.Parameter]) -> list[RemovableHandle]:
    """Have every gradient that reaches these parameters averaged over the processes at once, from now on."""
    if not joined():
        return []
    size = distributed.get_world_size()

    def average(parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        distributed.all_reduce(parameter.grad)
        parameter.grad /= size

    return [p.register_post_accumulate_grad_hook(average) for p in parameters]  # type: ignore[no-untyped-call]
