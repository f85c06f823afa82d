"""The change of a distillation term's weight over the training."""

from __future__ import annotations

import math

from segkd.arguments import integer
from segkd.errors import UserError

DECAYS = ("constant", "linear", "cosine")


class WeightSchedule:
    """A factor in 0..1 for the weight at every step.

    Args:
        warmup: the factor rises linearly from 1 / warmup to 1 over this many steps (DKD, ReviewKD).
        decay: after the warm-up it is "constant", or falls to 0 at ``stop``: "linear" or "cosine" (half a wave).
        stop: from this step on the factor is 0, and the term is not computed any more.
    """

    def __init__(self, warmup: int = 0, decay: str = "constant", stop: int | None = None) -> None:
        if decay not in DECAYS:
            raise UserError(f"schedule: decay {decay!r} is not one of {', '.join(DECAYS)}")
        warmup = integer(warmup, "warmup", "schedule", least=0)
        stop = None if stop is None else integer(stop, "stop", "schedule")
        if decay != "constant" and stop is None:
            raise UserError(f"schedule: a {decay} decay needs the step at which it ends, stop=...")
        if stop is not None and stop <= warmup:
            raise UserError(f"schedule: it stops at step {stop}, before its warm-up of {warmup} steps ends")
        self.warmup, self.decay, self.stop = warmup, decay, stop

    def __call__(self, step: int) -> float:
        """The factor at ``step`` (the first is 0)."""
        if self.stop is not None and step >= self.stop:
            return 0.0
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.stop is None or self.decay == "constant":
            return 1.0
        progress = (step - self.warmup) / (self.stop - self.warmup)
        return 1 - progress if self.decay == "linear" else (1 + math.cos(math.pi * progress)) / 2
