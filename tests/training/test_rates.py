"""Learning rates that a schedule gives, against their closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from segkd.errors import UserError
from segkd.training.config import Schedule
from segkd.training.rates import Rates

STEPS, WARMUP, LR = 40, 5, 0.2


def rates(**schedule: Any) -> list[float]:
    """The learning rate of each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    own = Rates(optimizer, Schedule.read(schedule), STEPS)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        own.step()
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
        rates(**{"warmup": WARMUP, **schedule})


def test_a_warm_up_of_one_step_ends_at_the_full_rate() -> None:
    found = rates(warmup=1, policy="constant")
    assert found == pytest.approx([0.01 * LR] + [LR] * (STEPS - 1))


def test_a_warm_up_longer_than_the_training_is_refused() -> None:
    with pytest.raises(
        UserError, match=rf"schedule.warmup={STEPS + 1} is longer than schedule.steps={STEPS}; set it to 4"
    ):
        rates(warmup=STEPS + 1)
    assert rates(warmup=STEPS)[-1] == pytest.approx(LR)


def plain(scheduler: Any, steps: int) -> list[float]:
    """The rates of a torch scheduler on its own."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.9)
    built, found = scheduler(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        built.step()
    return found


@pytest.mark.parametrize("warmup", [0, WARMUP])
@pytest.mark.parametrize(
    ("policy", "same"),
    [
        (dict(type="StepLR", step_size=7), lambda o: lr_scheduler.StepLR(o, 7)),
        (dict(type=lr_scheduler.CosineAnnealingLR), lambda o: lr_scheduler.CosineAnnealingLR(o, LEFT[0])),
        (dict(type="torch.optim.lr_scheduler.ExponentialLR", gamma=0.9), lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
        (
            dict(type="OneCycleLR", max_lr=1.0, cycle_momentum=False),
            lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=LEFT[0], cycle_momentum=False),
        ),
    ],
)
def test_schedulers_of_torch_begin_after_the_warm_up(policy: dict[str, Any], same: Any, warmup: int) -> None:
    LEFT[0] = STEPS - warmup
    found = rates(warmup=warmup, policy=policy)
    alone = plain(same, STEPS - warmup)
    assert found[warmup:] == pytest.approx(alone, rel=1e-9)
    assert found[:warmup] == pytest.approx([alone[0] * (0.01 + 0.99 * i / (warmup - 1)) for i in range(warmup)])


LEFT = [STEPS]  # steps after the warm-up


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (dict(type="StpLR"), "unknown scheduler 'StpLR'; did you mean 'StepLR'"),
        (dict(type="StepLR"), "StepLR: .*step_size"),
        (dict(type="ReduceLROnPlateau"), "unknown scheduler 'ReduceLROnPlateau'"),
        (dict(type=torch.nn.Linear), "Linear is no scheduler"),
        (dict(), "is no scheduler"),
    ],
)
def test_wrong_schedulers_of_torch_are_named(policy: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rates(policy=policy)
