"""Hooks: a user's code at fixed points of a training, by mmengine's protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segkd.errors import UserError
from segkd.registry import build

POINTS = (
    "after_image_kept", "before_first_stages", "before_run", "before_train", "before_train_epoch", "before_train_iter",
    "after_train_iter",
    "before_val", "before_val_epoch", "before_val_iter", "after_val_iter", "after_val_epoch", "after_val",
    "after_train_epoch", "after_train", "after_run", "after_log",
)  # fmt: skip
PRIORITIES = dict(
    HIGHEST=0, VERY_HIGH=10, HIGH=30, ABOVE_NORMAL=40, NORMAL=50, BELOW_NORMAL=60, LOW=70, VERY_LOW=90, LOWEST=100
)


class Hooks:
    """Hooks in the order of their priorities; those of equal priority in the order in which they were given.

    A hook is an object with any of the methods in ``POINTS``; mmengine's hooks are such objects. Each gets the training
    as its first argument (see ``segkd.training.loop.Training``). Three are not mmengine's: ``after_image_kept`` with
    ``said``, ``done`` and ``total``, while ``data.cache`` is filled, ``before_first_stages``, with
    the run folder there and the model not yet on its device; ``after_log`` with ``record``, a line of the log, in
    the first process. ``close()`` is called at the end, however the training ended.
    """

    def __init__(self, hooks: Sequence[Any]) -> None:
        self.hooks = sorted(hooks, key=lambda hook: _priority(getattr(hook, "priority", "NORMAL")))

    def call(self, point: str, training: Any, **arguments: Any) -> None:
        """Call the method ``point`` of every hook that has it."""
        for hook in self.hooks:
            method = getattr(hook, point, None)
            if method is not None:
                method(training, **arguments)

    def close(self) -> None:
        """Close every hook that can be closed, however the training ended."""
        for hook in self.hooks:
            if callable(close := getattr(hook, "close", None)):
                close()


class MMEngineNames:
    """What mmengine's hooks call the parts of a training."""

    loaders: Mapping[str, Any]

    @property
    def train_dataloader(self) -> Any:
        """The training batches."""
        return self.loaders["train"]

    @property
    def val_dataloader(self) -> Any:
        """The validation batches."""
        return self.loaders["val"]

    @property
    def train_loop(self) -> Any:
        """The training itself, which has ``stop_training``."""
        return self


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
