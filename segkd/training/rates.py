"""Learning rates: a linear warm-up, then a policy; counted in training steps."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer, lr_scheduler

from segkd.arguments import number
from segkd.errors import UserError, first_line, nearest
from segkd.registry import resolve
from segkd.training.config import Schedule

START = 0.01  # of the rate, in the first step of a warm-up
Group = dict[str, Any]
#: rate of a group at a step from the one before, the step counted from the end of the warm-up
Next = Callable[[float, float, int], float]  # (rate, first rate, step) -> rate


class Rates:
    """The learning rates of one optimiser: ``schedule.warmup`` steps up from a hundredth, then ``schedule.policy``.

    "poly" (the default): ``(1 - t) ** power``, t from 0 to 1 over the steps after the warm-up, power 0.9; "cosine":
    half a period; both down to ``min_lr``. "step": times ``gamma`` (0.1) at each of ``milestones``. "exponential":
    times ``gamma`` every ``interval`` steps. "constant". Or ``dict(type=..., ...)``: a scheduler of
    ``torch.optim.lr_scheduler`` by name, class or dotted path, stepped at every training step after the warm-up.

    Args:
        optimizer: whose groups' rates are set, at once to those of the first step.
        schedule: the config's section.
        steps: of the training.

    Raises:
        UserError: a policy that is unknown or lacks what it needs; a warm-up that is longer than the training.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule, steps: int) -> None:
        self.optimizer, self.step_number = optimizer, 0
        self.warmup = schedule.warmup
        if self.warmup > steps:
            raise UserError(
                f"schedule.warmup={self.warmup} is longer than schedule.steps={steps}; set it to {steps // 10}"
            )
        policy = schedule.policy
        self.torch = _torch_scheduler(optimizer, policy, steps - self.warmup) if isinstance(policy, Mapping) else None
        self.next = _constant if self.torch else _policy(schedule, policy, self.warmup, steps)
        highest = max(float(group["lr"]) for group in optimizer.param_groups)
        if not self.torch and schedule.min_lr is not None and schedule.min_lr > highest:
            raise UserError(f"schedule.min_lr={schedule.min_lr} is above the optimiser's lr={highest:g}; lower it")
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["first_lr"] = group["lr"]
            group["lr"] *= START if self.warmup else 1

    def step(self) -> None:
        """Set the rates of the next step."""
        self.step_number += 1
        at = self.step_number - self.warmup
        for group in self.optimizer.param_groups:
            if at < 0:
                group["lr"] *= _ramp(self.step_number, self.warmup)
            elif at == 0 and (self.torch or self.warmup == 1):
                group["lr"] = group["first_lr"]
            elif at > 0:
                group["lr"] = self.next(group["lr"], group["first_lr"], at)
        if self.torch and at > 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, of schedulers that step where gradients only accumulate
                self.torch.step()

    def try_out(self) -> None:
        """Take a first step of torch's scheduler, to see whether it can; for rates that nothing is trained with."""
        if self.torch:
            try:
                self.torch.step()
            except Exception as error:
                name, text = type(self.torch).__name__, first_line(error)
                raise UserError(f"schedule.policy: {name} cannot take a step: {text}; change its arguments") from error

    def go_to(self, step: int) -> None:
        """Set the rates of a step, as after all steps before it."""
        while self.step_number < step:
            self.step()


def _ramp(step: int, warmup: int) -> float:
    """The factor from the rate before to that of ``step`` in a warm-up that ends at the full rate."""
    return 1.0 + (1.0 - START) / ((warmup - 1) * START + (step - 1) * (1.0 - START))


def _policy(schedule: Schedule, policy: Any, warmup: int, steps: int) -> Next:
    if policy not in POLICIES:
        raise UserError(f"unknown schedule.policy {policy!r}; {nearest(str(policy), POLICIES)}")
    build, own = POLICIES[policy]
    for key in sorted({k for _, keys in POLICIES.values() for k in keys} - own):
        if getattr(schedule, key) is not None:  # a key of another policy would silently do nothing
            takers = [name for name, (_, keys) in POLICIES.items() if key in keys]
            raise UserError(f"schedule.{key} means nothing to the policy {policy!r}; it is for {', '.join(takers)}")
    return build(schedule, warmup, steps)


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _least(schedule: Schedule) -> float:
    return number(_or(schedule.min_lr, 0.0), "min_lr", "schedule", least=0)


def _poly(schedule: Schedule, warmup: int, steps: int) -> Next:
    power, least = number(_or(schedule.power, 0.9), "power", "schedule", above=0), _least(schedule)
    count = steps - warmup
    return lambda rate, _, at: (rate - least) * (1 - 1 / (count - at + 1)) ** power + least if at <= count else least


def _cosine(schedule: Schedule, warmup: int, steps: int) -> Next:
    least, count = _least(schedule), steps - warmup

    def following(rate: float, _: float, at: int) -> float:
        if at >= count:
            return least
        wave, before = (1 + math.cos(math.pi * step / count) for step in (at, at - 1))
        return wave / before * (rate - least) + least

    return following


def _step(schedule: Schedule, warmup: int, steps: int) -> Next:
    milestones = schedule.milestones
    if not isinstance(milestones, list | tuple) or not all(isinstance(m, int) and warmup < m for m in milestones):
        raise UserError(
            f"schedule.milestones must list the steps (after the warm-up of {warmup}) at which the policy 'step' "
            f"lowers the learning rate, got {milestones!r}"
        )
    gamma = number(_or(schedule.gamma, 0.1), "gamma", "schedule", above=0)
    return _falling(gamma, milestones, warmup)


def _exponential(schedule: Schedule, warmup: int, steps: int) -> Next:
    gamma = schedule.gamma
    interval = _or(schedule.interval, 1)
    if not isinstance(gamma, float) or not 0 < gamma <= 1 or not isinstance(interval, int) or interval < 1:
        raise UserError(
            "the policy 'exponential' needs schedule.gamma in 0..1, the factor of each schedule.interval (1) steps; "
            f"got gamma={gamma!r}, interval={interval!r}"
        )
    return _falling(gamma, range(warmup + interval, steps, interval), warmup)


def _falling(gamma: float, milestones: Any, warmup: int) -> Next:
    counts = {milestone - warmup: list(milestones).count(milestone) for milestone in set(milestones)}
    return lambda rate, _, at: rate * gamma ** counts[at] if at in counts else rate


def _constant(rate: float, _: float, at: int) -> float:
    return rate


#: name -> how it is built, and the keys of ``schedule`` that are its own
POLICIES: dict[str, tuple[Callable[[Schedule, int, int], Next], set[str]]] = {
    "poly": (_poly, {"power", "min_lr"}),
    "cosine": (_cosine, {"min_lr"}),
    "step": (_step, {"milestones", "gamma"}),
    "exponential": (_exponential, {"gamma", "interval"}),
    "constant": (lambda *_: _constant, set()),
}


def _torch_scheduler(optimizer: Optimizer, policy: Mapping[str, Any], steps: int) -> lr_scheduler.LRScheduler:
    """A scheduler of torch's kind; ``T_max`` or ``total_steps``, if it takes one, is by default ``steps``."""
    arguments = {key: value for key, value in policy.items() if key != "type"}
    kind = policy.get("type")
    if isinstance(kind, str) and "." not in kind:
        known = [name for name, value in vars(lr_scheduler).items() if _is_scheduler(value)]
        if kind not in known:
            raise UserError(f"schedule.policy: unknown scheduler {kind!r}; {nearest(kind, known)}")
        kind = getattr(lr_scheduler, kind)
    cls: Any = resolve(kind, "scheduler")
    if not _is_scheduler(cls):
        raise UserError(f"schedule.policy: {getattr(cls, '__name__', cls)} is no scheduler of torch.optim.lr_scheduler")
    takes = inspect.signature(cls).parameters
    arguments |= {key: steps for key in ("T_max", "total_steps") if key in takes and key not in arguments}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            built: lr_scheduler.LRScheduler = cls(optimizer, **arguments)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"schedule.policy: {cls.__name__}: {first_line(error)}") from error
    return built


def _is_scheduler(value: Any) -> bool:
    if not inspect.isclass(value) or not issubclass(value, lr_scheduler.LRScheduler):
        return False
    return value is not lr_scheduler.LRScheduler and value is not lr_scheduler.ReduceLROnPlateau
