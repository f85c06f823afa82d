"""Cross entropy over the valid pixels, all of them or the hardest ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.arguments import integer, number, numbers
from segkd.errors import UserError, nearest

IGNORE_INDEX = 255
SELECTIONS = ("loss", "probability")
DENOMINATORS = ("weights", "pixels")


class CrossEntropy(nn.Module):
    """Cross entropy over the valid pixels of the whole batch: ``sum(ce) / count(label != ignore_index)``.

    Shapes: logits (N, K, H, W), label (N, H, W) int64. Zero, with zero gradient, where every pixel is ignored. Across
    processes the count is averaged, so the gradients equal those of one process that sees the whole batch.

    Args:
        class_weight: K factors of the pixels' losses, or None.
        ignore_index: the label that takes no part.
        divide_by: "weights": the sum is divided by that of the valid pixels' factors, as in torch. "pixels": by the
            number of all pixels, void ones too, whatever their factors, as in PIDNet's auxiliary loss.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        class_weight: Sequence[float] | None = None,
        ignore_index: int = IGNORE_INDEX,
        divide_by: str = "weights",
    ) -> None:
        super().__init__()
        if divide_by not in DENOMINATORS:
            raise UserError(f"CrossEntropy: divide_by cannot be {divide_by!r}; {nearest(divide_by, DENOMINATORS)}")
        self.register_buffer("class_weight", weight_tensor(class_weight), persistent=False)
        self.ignore_index = integer(ignore_index, "ignore_index", "CrossEntropy", least=None)
        self.by_pixels = divide_by == "pixels"

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        logits = upcast(logits)
        weight = None if self.class_weight is None else self.class_weight.to(logits.dtype)
        total = F.cross_entropy(logits, label, weight=weight, ignore_index=self.ignore_index, reduction="sum")
        if self.by_pixels:
            return total / mean_over_processes(total.new_tensor(float(label.numel())))
        valid = label != self.ignore_index
        count = valid.sum().to(total.dtype) if weight is None else weight[label[valid]].sum()
        return total / mean_over_processes(count).clamp(min=1e-6 if weight is not None else 1.0)


class OHEM(nn.Module):
    """Cross entropy averaged over the hard pixels alone (online hard example mining), in the two published forms.

    A valid pixel is hard where its true class gets less than ``threshold``. Where fewer than ``min_kept`` are, the
    ``min_kept`` hardest are taken, or all valid ones if there are no more. Every process selects among its own pixels
    (so the result depends on how a batch is spread); the number of those selected is averaged over processes.

    - BiSeNet (CoinCheung's), STDC: ``OHEM(0.7, min_kept=1 / 16)``.
    - DDRNet, PIDNet (from HRNet): ``OHEM(0.9, min_kept=131072, class_weight=..., select="probability")``.

    Where there are ``min_kept`` valid pixels at most, the second form leaves out the easiest of them; here it stays.

    Shapes: logits (N, K, H, W), label (N, H, W) int64. Zero, with zero gradient, where every pixel is ignored.

    Args:
        threshold: probability of the true class below which a pixel is hard.
        min_kept: an int for so many pixels of each process, a float below 1 for that part of its valid ones, rounded
            down.
        class_weight: K factors of the pixels' losses, or None. They do not enter the denominator (as published).
        select: what makes a pixel hard: ``"loss"`` is the weighted cross entropy (above -ln(threshold)),
            ``"probability"`` that of the true class; the same without class weights.
        ignore_index: the label that takes no part.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        threshold: float = 0.7,
        min_kept: int | float = 1 / 16,
        class_weight: Sequence[float] | None = None,
        select: str = "loss",
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        self.cutoff = -math.log(number(threshold, "threshold", "OHEM", above=0, most=1))
        self.min_kept = number(min_kept, "min_kept", "OHEM", least=0)
        if self.min_kept >= 1 and not self.min_kept.is_integer():
            raise UserError(f"OHEM: min_kept must be a number of pixels, or a part below 1 of them, got {min_kept!r}")
        if select not in SELECTIONS:
            raise UserError(f"OHEM: select cannot be {select!r}; {nearest(select, SELECTIONS)}")
        self.register_buffer("class_weight", weight_tensor(class_weight), persistent=False)
        self.by_probability = select == "probability"
        self.ignore_index = integer(ignore_index, "ignore_index", "OHEM", least=None)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        loss = F.cross_entropy(upcast(logits), label, ignore_index=self.ignore_index, reduction="none")
        valid = label != self.ignore_index
        loss, label = loss[valid], label[valid]
        weighted = loss if self.class_weight is None else loss * self.class_weight.to(loss.dtype)[label]
        chosen = weighted[self._hardest((loss if self.by_probability else weighted).detach())]
        count = torch.tensor(float(len(chosen)), dtype=chosen.dtype, device=chosen.device)
        return chosen.sum() / mean_over_processes(count).clamp(min=1.0)

    def _hardest(self, score: Tensor) -> Tensor:
        """Scores (P,), the higher the harder -> mask (P,), or positions, of those that count."""
        least = int(self.min_kept if self.min_kept >= 1 else self.min_kept * len(score))
        hard = ~(score <= self.cutoff)  # not a number is hard too, so that it shows
        return hard if int(hard.sum()) >= least else score.topk(min(least, len(score))).indices


def upcast(x: Tensor) -> Tensor:
    """``x`` in at least float32: half and bfloat16 are raised, float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def weight_tensor(class_weight: Sequence[float] | None) -> Tensor | None:
    """The factors (K,) as float32."""
    if class_weight is None:
        return None
    return torch.tensor(numbers(class_weight, "class_weight", "a loss", least=0), dtype=torch.float32)


def sum_over_processes(value: Tensor) -> Tensor:
    """A sum over all processes; its gradient, averaged over them as they average all, is that of one process."""
    processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if processes == 1:
        return value
    own = processes * value
    return own + (processes * mean_over_processes(value) - own).detach()


def mean_over_processes(value: Tensor) -> Tensor:
    """A denominator averaged over all processes (itself in a single one); carries no gradient."""
    value = value.detach()
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return value
