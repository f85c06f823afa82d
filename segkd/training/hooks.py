"""Hooks: a user's code at fixed points of a training, by mmengine's protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from segkd.errors import UserError
from segkd.registry import build

POINTS = (
    "before_run", "before_train", "before_train_epoch", "before_train_iter", "after_train_iter", "before_val",
    "before_val_epoch", "before_val_iter", "after_val_iter", "after_val_epoch", "after_val", "after_train_epoch",
    "after_train", "after_run",
)  # fmt: skip
PRIORITIES = dict(
    HIGHEST=0, VERY_HIGH=10, HIGH=30, ABOVE_NORMAL=40, NORMAL=50, BELOW_NORMAL=60, LOW=70, VERY_LOW=90, LOWEST=100
)


class Hooks:
    """Hooks in the order of their priorities; those of equal priority in the order in which they were given.

    A hook is an object with any of the methods in ``POINTS``; mmengine's hooks are such objects. Each gets the training
    as its first argument (see ``segkd.training.loop.Training``).
    """

    def __init__(self, hooks: Sequence[Any]) -> None:
        self.hooks = sorted(hooks, key=lambda hook: _priority(getattr(hook, "priority", "NORMAL")))

    def call(self, point: str, training: Any, **arguments: Any) -> None:
        """Call the method ``point`` of every hook that has it."""
        for hook in self.hooks:
            method = getattr(hook, point, None)
            if method is not None:
                method(training, **arguments)


def _priority(value: Any) -> int:
    if isinstance(value, int):
        return value
    if value not in PRIORITIES:
        raise UserError(f"a hook's priority {value!r} is not one of {', '.join(PRIORITIES)}, nor a number")
    return PRIORITIES[value]


def build_hooks(given: Any) -> list[Any]:
    """The hooks of a config."""
    if not isinstance(given, list | tuple):
        raise UserError(f"hooks must be a list of dict(type=...), got {given!r}")
    built = [build(one, "hook") for one in given]
    for one, hook in zip(given, built, strict=True):
        if not any(callable(getattr(hook, point, None)) for point in POINTS):
            raise UserError(f"hooks: {one!r} is no hook of mmengine's kind; give dict(type=...)")
    return built


class Callback:
    """A hook that reports steps and validations to a caller (a progress bar).

    Args:
        on_step: called with (step, total, loss) every ``interval`` steps and at the last.
        on_val: called with (step, scores) after each validation.
        interval: steps between calls of ``on_step``.
        on_val_step: called with (images done, images) during a validation.
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        on_step: Callable[[int, int, float], None],
        on_val: Callable[[int, Mapping[str, float]], None] | None = None,
        interval: int = 5,
        on_val_step: Callable[[int, int], None] | None = None,
    ) -> None:
        self.on_step, self.on_val, self.interval, self.on_val_step = on_step, on_val, interval, on_val_step

    def after_train_iter(self, training: Any, batch_idx: int, data_batch: Any, outputs: Mapping[str, Any]) -> None:
        """Report the step, every ``interval`` steps and at the last."""
        step = training.iter + 1
        if step % self.interval == 0 or step == training.max_iters:
            self.on_step(step, training.max_iters, float(outputs["loss"]))

    def after_val_iter(self, training: Any, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        """Report how far a validation is."""
        if self.on_val_step:
            self.on_val_step(batch_idx + 1, len(training.val_dataloader))

    def after_val_epoch(self, training: Any, metrics: Mapping[str, float]) -> None:
        """Report the scores of a validation."""
        if self.on_val:
            self.on_val(training.iter, metrics)
