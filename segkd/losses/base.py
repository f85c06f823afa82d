"""What every distillation loss is, and the helpers that losses share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.registry import Registry

Tensors = Tensor | tuple[Tensor, ...]

#: ``usual_rms`` of a loss that compares values: the pull grows with the teacher's scale. The bounds are ours.
COMPARED = (0.1, 10.0)
#: that of a loss of softmaxes: of faint features they are nearly uniform, whatever these say
SOFTMAX = (0.1, float("inf"))


class DistillationLoss(nn.Module):
    """Base of all losses: ``loss(student, teacher, label=None, *, image=None, draw=None) -> scalar``.

    ``student`` and ``teacher`` are a tensor, or a tuple in the order in which the bind lists its taps. The teacher
    never gets a gradient. A loss with parameters, buffers or sampling overrides ``prepare`` or ``sample``.

    Attributes:
        raw_sizes: the loss makes height and width meet itself; the bind then hands over both maps as they are.
        any_channels: student and teacher may have different channel counts.
        uses_index: the loss is also called with ``index=``, the samples' numbers (N,) in the data set (memory banks).
        usual_rms: where the scale of the teacher's features decides what the loss teaches, the least and the largest
            rms that pass without a warning; None where it does not matter. A bind's ``teacher_scale`` changes it.
        takes_mask: it is also called with ``valid=``, the mask (N, H, W) of a bind with ``masked=True``.
        no_weight_decay: names of own parameters that the optimiser must not decay.
        published_scale: publication -> how many times this loss's value its value is, as a formula of N, C, H, W, the
            shape of the student's tensor, of K classes, the temperature T, and what the loss explains beside it. A
            published weight times this number is the weight here.
    """

    raw_sizes: bool = False
    any_channels: bool = False
    uses_index: bool = False
    usual_rms: tuple[float, float] | None = None
    takes_mask: bool = True
    no_weight_decay: Sequence[str] = ()
    published_scale: Mapping[str, str] = {}

    def __init__(self) -> None:  # not Module's, which would take any argument
        super().__init__()

    def prepare(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        teacher_modules: Sequence[nn.Module],
    ) -> None:
        """Make all parameters and buffers, from shapes probed with one batch, before optimisers exist.

        ``teacher_modules`` are the tapped layers; none where no layer gives what enters the loss: the
        mean of several teachers' features, or scaled ones.
        """

    def sample(self, *shapes: tuple[int, ...], seed: int, index: Sequence[int] | None = None) -> Any:
        """The random draw of one step (``None`` for a loss without randomness), from generators of its own.

        Args:
            shapes: of the student's features as they enter the loss, (N, C, H, W) each.
            seed: of the run and the step.
            index: the samples' numbers in the data set. A draw for sample n depends on (seed, index[n]) alone, so that
                it is the same however the batch is spread over processes.
        """
        return None

    def after_step(self) -> None:
        """Called once after every optimiser step (not for every accumulated batch): the place to update banks."""


@runtime_checkable
class WithCritic(Protocol):
    """A loss with an adversary, trained in alternation with the student by an optimiser of its own."""

    def critic_parameters(self) -> list[nn.Parameter]:
        """What the critic's optimiser trains; the student's optimiser leaves it alone."""
        ...

    def critic_loss(self, student: Tensors, teacher: Tensors, *, image: Tensor | None, draw: Any) -> Tensor:
        """What the critic's optimiser lowers (a scalar, gradient penalty included); both sides come detached."""
        ...


@runtime_checkable
class WithFirstStage(Protocol):
    """A loss whose own parts learn from the teacher alone, before the student's training, and are frozen then."""

    def first_stage_parameters(self) -> list[nn.Parameter]:
        """What the first stage trains; afterwards nothing does."""
        ...

    def first_stage_loss(self, teacher: Tensors) -> Tensor:
        """What the first stage lowers (a scalar)."""
        ...


def single(features: Tensors, name: str) -> Tensor:
    """The one tensor of a bind with one tap; several are a UserError."""
    if isinstance(features, Tensor):
        return features
    if len(features) != 1:
        raise UserError(f"{name} takes one tap a side, got {len(features)}")
    return features[0]


def upcast(x: Tensor) -> Tensor:
    """``x`` in at least float32: half and bfloat16 are raised, float64 stays (the design's precision rule)."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def cast_to_part(part: nn.Module, x: Tensor) -> Tensor:
    """``x`` in the precision of the part's parameters: of a loss's own network, which float64 inputs may meet too."""
    return upcast(x).to(next(part.parameters()).dtype)


def no_autocast(x: Tensor) -> torch.autocast:
    """A context in which no operation on ``x``'s device is cast to a lower precision."""
    return torch.autocast(device_type=x.device.type, enabled=False)


def same_shape(student: Tensor, teacher: Tensor, name: str) -> None:
    """A UserError, with the cure, unless both tensors have one shape."""
    if student.shape == teacher.shape:
        return
    if student.dim() == teacher.dim() > 1 and student.shape[1] != teacher.shape[1]:
        cure = "add connector=dict(type=Conv1x1) to its bind, or tap layers with equal channels"
    else:
        cure = "resize one to the other first (a bind does)"
    raise UserError(f"{name}: student is {tuple(student.shape)}, teacher {tuple(teacher.shape)}; {cure}")


def check_logits(student: Tensor, teacher: Tensor, name: str) -> None:
    """A UserError unless both are logits (N, K, H, W) or (N, K) of one shape."""
    if student.dim() < 2:
        raise UserError(f"{name} takes logits (N, K, H, W) or (N, K), got a student of shape {tuple(student.shape)}")
    same_shape(student, teacher, name)


def one_map_a_side(student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]], name: str) -> None:
    """A UserError unless the shapes at the taps of each side are one (N, C, H, W)."""
    if any(len(shapes) != 1 or len(shapes[0]) != 4 for shapes in (student, teacher)):
        raise UserError(f"{name} takes one tap (N, C, H, W) a side, got {[tuple(x) for x in (*student, *teacher)]}")


def valid_mask(valid: Tensor | None, shape: tuple[int, ...], name: str) -> Tensor | None:
    """``valid`` as a boolean mask, checked against the (N, H, W) or (N,) that the loss counts over."""
    if valid is not None and tuple(valid.shape) != shape:
        raise UserError(f"{name}: the valid mask is {tuple(valid.shape)}, its positions are {shape}")
    return None if valid is None else valid.bool()


def resized_mask(valid: Tensor, samples: int, size: Sequence[int], name: str) -> Tensor:
    """``valid`` (N, H, W) as a boolean mask (N, h, w), nearest-exact: for taps of several sizes, which share one."""
    if valid.dim() != 3 or valid.shape[0] != samples:
        raise UserError(f"{name}: the valid mask must be (N, H, W) with N = {samples}, got {tuple(valid.shape)}")
    if tuple(valid.shape[1:]) == tuple(size):
        return valid.bool()
    return F.interpolate(valid[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0] > 0.5


def mean_over(total: Tensor, count: Tensor) -> Tensor:
    """``total / count`` for a count that depends on the data; 0 with zero gradient where nothing was counted.

    In a process group the count is averaged over the ranks: since DDP averages gradients, the result is then the mean
    over all ranks' samples, however unevenly they are spread. Every rank must call it equally often.
    """
    count = count.detach().to(total.dtype)
    world = 1
    if distributed.is_available() and distributed.is_initialized():
        world = distributed.get_world_size()
        count = count.clone()
        distributed.all_reduce(count)
    return total * (world / count.clamp_min(1))


LOSSES: Registry[DistillationLoss] = Registry("loss", "segkd.losses")
