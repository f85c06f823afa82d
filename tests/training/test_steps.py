"""What a step draws and how far it goes: seeded by its number, and clipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import Watch, config
from torch import Tensor

from segkd.supervision import CrossEntropy
from segkd.training.loop import train


class Drawing(CrossEntropy):
    """Cross entropy that draws a number from torch's generator, as dropout does."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[float] = []

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        self.drawn.append(float(torch.rand(())))
        return super().forward(logits, label)


def drawn(run: Path, resume: bool = False, crash_at: int | None = None, seed: int = 3) -> list[float]:
    """What each step of a run of four drew."""
    cfg, loss = config(seed=seed), Drawing()
    cfg["model"]["supervision"] = dict(main=dict(loss=loss))
    if crash_at is None:
        train(cfg, run, resume=resume)
    else:
        with pytest.raises(KeyboardInterrupt):
            train(cfg, run, hooks=[Watch(crash_at=crash_at)])
    return loss.drawn


def test_each_step_draws_its_own_numbers_and_those_again_after_resuming(tmp_path: Path) -> None:
    whole = drawn(tmp_path / "whole")
    assert len(set(whole)) == len(whole) == 4
    assert drawn(tmp_path / "parts", crash_at=3) == whole[:3]
    assert drawn(tmp_path / "parts", resume=True) == whole[2:]  # from the state of step 2
    assert not set(drawn(tmp_path / "other", seed=4)) & set(whole)


def moved(run: Path, **optim: Any) -> float:
    """How far one step of plain descent at rate 1 moves the student: the norm of the gradient that is used."""
    cfg, watch = config(schedule=dict(steps=1, val_interval=1, warmup=0, policy="constant")), Watch()
    cfg["optim"] = dict(optimizer=dict(type=torch.optim.SGD, lr=1.0)) | optim
    cfg["model"]["supervision"] = None  # nothing but the student learns
    train(cfg, run, hooks=[watch])
    before, after = watch.weights[0], torch.load(run / "student_last.pth", weights_only=True)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    moves = [after[key].double() - before[key] for key in after if not key.endswith(statistics)]
    return float(torch.cat([move.flatten() for move in moves]).norm())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_students_gradient_is_clipped(tmp_path: Path, accumulate: int) -> None:
    assert moved(tmp_path / "free", accumulate=accumulate) > 0.1
    clipped = moved(tmp_path / "clipped", accumulate=accumulate, clip_grad=dict(max_norm=0.01))
    assert clipped == pytest.approx(0.01, rel=1e-3)
