"""Learning rate policies: ``schedule`` of a config as mmengine's schedulers, all counted in optimiser steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from segkd.arguments import number
from segkd.errors import UserError, nearest

Scheduler = dict[str, Any]


def schedulers(schedule: Mapping[str, Any], steps: int) -> list[Scheduler]:
    """A linear warm-up over ``schedule.warmup`` steps, then ``schedule.policy``, "poly" by default.

    "poly": ``(1 - t) ** power``, t from 0 to 1 over the steps after the warm-up, power 0.9; "cosine": half a period;
    both down to ``min_lr``. "step": times ``gamma`` (0.1) at each of ``milestones``. "exponential": times ``gamma``
    every ``interval`` steps. "constant".
    """
    warmup = min(int(schedule.get("warmup", 0)), max(steps - 1, 0))
    policy = str(schedule.get("policy", "poly"))
    if policy not in POLICIES:
        raise UserError(f"unknown schedule.policy {policy!r}; {nearest(policy, POLICIES)}")
    _check_keys(schedule, policy)
    ramp = [dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warmup)] if warmup else []
    return [*ramp, *POLICIES[policy][0](schedule, warmup, steps)]


def _check_keys(schedule: Mapping[str, Any], policy: str) -> None:
    """A key of another policy would silently do nothing."""
    own = POLICIES[policy][1]
    for key in sorted({k for _, keys in POLICIES.values() for k in keys} - own):
        if key in schedule:
            takers = [name for name, (_, keys) in POLICIES.items() if key in keys]
            raise UserError(f"schedule.{key} means nothing to the policy {policy!r}; it is for {', '.join(takers)}")


def _least(schedule: Mapping[str, Any]) -> float:
    return number(schedule.get("min_lr", 0.0), "min_lr", "schedule", least=0)


def _poly(schedule: Mapping[str, Any], begin: int, steps: int) -> list[Scheduler]:
    power, least = number(schedule.get("power", 0.9), "power", "schedule", above=0), _least(schedule)
    # mmengine reaches the least rate at the last step before ``end``, which would then learn nothing.
    return [dict(type="PolyLR", power=power, eta_min=least, by_epoch=False, begin=begin, end=steps + 1)]


def _cosine(schedule: Mapping[str, Any], begin: int, steps: int) -> list[Scheduler]:
    return [dict(type="CosineAnnealingLR", eta_min=_least(schedule), by_epoch=False, begin=begin, end=steps)]


def _step(schedule: Mapping[str, Any], begin: int, steps: int) -> list[Scheduler]:
    milestones = schedule.get("milestones")
    if not isinstance(milestones, list | tuple) or not all(isinstance(m, int) and begin < m for m in milestones):
        raise UserError(
            f"schedule.milestones must list the steps (after the warm-up of {begin}) at which the policy 'step' lowers "
            f"the learning rate, got {milestones!r}"
        )
    gamma = number(schedule.get("gamma", 0.1), "gamma", "schedule", above=0)
    return [dict(type="MultiStepLR", milestones=list(milestones), gamma=gamma, by_epoch=False)]


def _exponential(schedule: Mapping[str, Any], begin: int, steps: int) -> list[Scheduler]:
    gamma = schedule.get("gamma")
    interval = schedule.get("interval", 1)
    if not isinstance(gamma, float) or not 0 < gamma <= 1 or not isinstance(interval, int) or interval < 1:
        raise UserError(
            "the policy 'exponential' needs schedule.gamma in 0..1, the factor of each schedule.interval (1) steps; "
            f"got gamma={gamma!r}, interval={interval!r}"
        )
    milestones = list(range(begin + interval, steps, interval))
    return [dict(type="MultiStepLR", milestones=milestones, gamma=gamma, by_epoch=False)]


def _constant(schedule: Mapping[str, Any], begin: int, steps: int) -> list[Scheduler]:
    return [dict(type="ConstantLR", factor=1.0, by_epoch=False, begin=0, end=steps)]


Policy = Callable[[Mapping[str, Any], int, int], list[Scheduler]]
#: name -> how it is built, and the keys of ``schedule`` that are its own
POLICIES: dict[str, tuple[Policy, set[str]]] = {
    "poly": (_poly, {"power", "min_lr"}),
    "cosine": (_cosine, {"min_lr"}),
    "step": (_step, {"milestones", "gamma"}),
    "exponential": (_exponential, {"gamma", "interval"}),
    "constant": (_constant, set()),
}
