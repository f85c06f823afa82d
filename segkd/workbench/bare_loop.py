"""The training loop that one writes by hand, beside which the real one is timed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from segkd.training.loop import Training
from segkd.training.optim import STUDENT, build_minimizers
from segkd.training.steps import Batch, without_grad


class BareLoop:
    """What one writes by hand for the same model and losses: no log, no hooks, no rates, no checks.

    Its optimisers are its own, of the same config.
    """

    def __init__(self, training: Training) -> None:
        self.model, self.precision, self.device = training.model.train(), training.precision, training.device
        self.parallel: Any = training.parallel or training.model
        self.clip = training.minimizers[STUDENT].clip_grad
        minimizers = build_minimizers(training.cfg, training.model)
        self.optimizers = [minimizer.optimizer for minimizer in minimizers.values()]
        self.student = minimizers[STUDENT].optimizer
        self.critics = training.model.critic_parameters()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision.scaler.is_enabled())

    def step(self, batches: list[Batch]) -> None:
        """One optimiser step."""
        for batch in batches:
            moved = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
            with without_grad(self.critics):
                with self.precision.autocast():
                    terms = self.parallel(**moved)
                self.backward(terms, len(batches))
            if self.critics and (terms := self.model.critic_losses()):
                self.backward(terms, len(batches))
        if self.clip:
            self.scaler.unscale_(self.student)
            torch.nn.utils.clip_grad_norm_([p for g in self.student.param_groups for p in g["params"]], **self.clip)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad()
        self.scaler.update()
        self.model.after_step()

    def backward(self, terms: Mapping[str, Tensor], batches: int) -> None:
        """The gradient of the terms' sum, as of one of so many batches."""
        self.scaler.scale(torch.stack(list(terms.values())).sum() / batches).backward()  # type: ignore[no-untyped-call]
