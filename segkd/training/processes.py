"""Several processes for one run, as torchrun starts them: the same batches and results as one process has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from segkd.errors import UserError, first_line
from segkd.segmentor import TrainingModel
from segkd.training.lifeline import GRACE, Lifeline

PATIENCE = timedelta(hours=2)  # of a process that waits for the others
MEETING = timedelta(minutes=10)
SHARED_FROM = 2**20  # weights of a block
LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def launch() -> Mapping[str, str]:
    """RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT, as torchrun sets them, or made of SLURM's."""
    given = os.environ
    if "WORLD_SIZE" in given or int(given.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return given
    nodes = given.get("SLURM_STEP_NODELIST", "localhost")
    first = re.match(r"([^,\[]*)(?:\[(\d+)[^\]]*\])?([^,\[]*)", nodes)  # node[07-09,12]-ib,other -> node07-ib
    address = "".join(part or "" for part in first.groups()) if first else nodes
    return {
        "RANK": given["SLURM_PROCID"],
        "WORLD_SIZE": given["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": given["SLURM_LOCALID"],
        "MASTER_ADDR": given.get("MASTER_ADDR", address),
        "MASTER_PORT": given.get("MASTER_PORT", str(20_000 + int(given.get("SLURM_JOB_ID", "0")) % 20_000)),
    }


def is_distributed() -> bool:
    """True if torchrun, srun, or another launcher that sets WORLD_SIZE, started more than one process."""
    return int(launch().get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    """The number of this process."""
    if is_initialized():
        return distributed.get_rank()
    return int(launch().get("RANK", "0")) if is_distributed() else 0


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if is_initialized() else 1


def is_initialized() -> bool:
    """True if the processes know each other."""
    return distributed.is_available() and distributed.is_initialized()


def is_main() -> bool:
    """True in the process that writes files and prints."""
    return rank() == 0


@contextmanager
def process_group() -> Iterator[None]:
    """A context in which the processes of one launch know each other: NCCL on GPUs, one each; gloo on a CPU.

    If one of them ends by an error or is killed, all end within a minute, and say why.
    """
    if not is_distributed() or is_initialized():
        yield
        return
    given, cuda = launch(), torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(given.get("LOCAL_RANK", "0")))
    os.environ.update({key: given[key] for key in LAUNCH if key in given})  # where torch looks
    try:
        store, own, count = next(rendezvous("env://", timeout=MEETING))
        distributed.init_process_group(
            "nccl" if cuda else "gloo", store=store, rank=own, world_size=count, timeout=PATIENCE
        )
    except (ValueError, distributed.DistError) as error:  # of the variables; of who did not come
        raise UserError(
            f"WORLD_SIZE says {given['WORLD_SIZE']} processes, but they cannot meet ({first_line(error)}): start them "
            "with torchrun or srun, or unset it"
        ) from error
    lifeline = Lifeline(store, own, count)
    lifeline.start()
    try:
        yield
        lifeline.finish()
    except BaseException as error:
        reason = lifeline.reason()
        lifeline.fail(error)
        lifeline.leave(GRACE)
        if isinstance(error, RuntimeError) and (reason or "peer" in str(error)):  # of a library, about one that is gone
            lost = "another process of this run was killed (out of memory?), or can't be reached"
            raise UserError(reason or lost) from error
        raise
    finally:
        distributed.destroy_process_group()


def seed_step(seed: int, step: int) -> None:
    """Seed torch from a run's seed and a step; each process its own, as each has its own part of the batch."""
    torch.manual_seed(seed * 1_000_003 + step + rank() * 1_000_000_007)


def mean(values: Tensor) -> Tensor:
    """The mean of a tensor over the processes."""
    if not is_initialized():
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def wait() -> None:
    """Wait until all processes are here."""
    if is_initialized():
        distributed.barrier()


def gathered(value: Any) -> list[Any]:
    """What each process has; every one must ask."""
    if not is_initialized():
        return [value]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def means(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The means over all processes of named scalars; every process must ask for the same names."""
    if not values:
        return {}
    found = mean(torch.stack([value.detach().double().reshape(()) for value in values.values()]))
    return dict(zip(values, found.tolist(), strict=True))


def share_buffers(model: nn.Module) -> None:
    """The buffers of the first process for all: statistics of BatchNorm that saw other parts of the batch."""
    if is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def sync_batchnorm(model: nn.Module) -> nn.Module:
    """BatchNorm over the whole batch instead of a process's part; GPUs only, as torch's has no CPU form."""
    if is_initialized() and torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-any-return, no-untyped-call]
    return model


def wrap_ddp(model: nn.Module, apart: Iterable[nn.Parameter] = (), unused: bool = False) -> DistributedDataParallel:
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
    if not is_initialized():
        return None
    sync_batchnorm(model)
    critics = model.critic_parameters()
    average_gradients(critics)
    resting = not all(bind.is_on(steps - 1) for bind in model.terms().values())
    return wrap_ddp(model, apart=critics, unused=resting)


def shard(network: nn.Module) -> None:
    """Share a frozen network out over the processes (FSDP2): each block of a million weights or more lies in parts,
    and is gathered while it runs. In one process, nothing changes."""
    from torch.distributed.fsdp import fully_shard  # these take a second to import
    from torch.distributed.tensor import DTensor

    if not is_initialized():
        return
    for module in network.children():
        if sum(weight.numel() for weight in module.parameters()) >= SHARED_FROM:
            shard(module)
            if not isinstance(module, nn.ModuleList | nn.ModuleDict):  # those only hold what runs
                for weight in module.parameters():
                    if not isinstance(weight.data, DTensor):
                        weight.data = weight.data.contiguous()  # channels_last can't be shared out
                fully_shard(module)


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
    if not is_initialized():
        return []
    size = distributed.get_world_size()

    def average(parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        distributed.all_reduce(parameter.grad)
        parameter.grad /= size

    return [p.register_post_accumulate_grad_hook(average) for p in parameters]  # type: ignore[no-untyped-call]
