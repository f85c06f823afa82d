"""Learning rates that a schedule gives, against their closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from segkd.engine.policies import schedulers
from segkd.errors import UserError

STEPS, WARMUP, LR = 40, 5, 0.2


def rates(**schedule: Any) -> list[float]:
    """The learning rate of each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    wrapper = OptimWrapper(optimizer=optimizer)
    built = [PARAM_SCHEDULERS.build({**cfg, "optimizer": wrapper}) for cfg in schedulers(schedule, STEPS)]
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    return found


def place(step: int) -> float:
    """From 0 at the end of the warm-up to 1 at the end."""
    return (step - WARMUP) / (STEPS - WARMUP)


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        ({}, lambda i: (1 - place(i)) ** 0.9),
        ({"policy": "poly", "power": 2.0}, lambda i: (1 - place(i)) ** 2),
        ({"policy": "cosine", "min_lr": 0.02}, lambda i: 0.1 + 0.9 * (1 + math.cos(math.pi * place(i))) / 2),
        ({"policy": "step", "milestones": [10, 30]}, lambda i: 0.1 ** ((i >= 10) + (i >= 30))),
        ({"policy": "step", "milestones": [10], "gamma": 0.5}, lambda i: 0.5 ** (i >= 10)),
        ({"policy": "exponential", "gamma": 0.9, "interval": 7}, lambda i: 0.9 ** ((i - WARMUP) // 7)),
        ({"policy": "constant"}, lambda i: 1.0),
    ],
)
def test_learning_rates(schedule: dict[str, Any], factor: Any) -> None:
    found = rates(warmup=WARMUP, **schedule)
    assert found[0] == pytest.approx(0.01 * LR)
    assert all(a < b for a, b in zip(found[:WARMUP], found[1:WARMUP], strict=False))
    for step in range(WARMUP, STEPS):
        assert found[step] == pytest.approx(LR * factor(step), rel=1e-6, abs=1e-12), step


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"policy": "polly"}, "did you mean 'poly'"),
        ({"policy": "cosine", "power": 0.9}, "schedule.power means nothing to the policy 'cosine'; it is for poly"),
        ({"policy": "step"}, "schedule.milestones must list the steps"),
        ({"policy": "step", "milestones": [3]}, r"after the warm-up of 5.*got \[3\]"),
        ({"policy": "exponential"}, "needs schedule.gamma"),
    ],
)
def test_what_cannot_be_is_said(schedule: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        schedulers({"warmup": WARMUP, **schedule}, STEPS)
