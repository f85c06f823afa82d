"""Guards of a training: a loss that is not finite stops it, terms that teach nothing or drown the rest are named."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from segkd.errors import UserError
from segkd.segmentor import TrainingModel
from segkd.training import processes
from segkd.training.log import add


class FiniteLoss:
    """A look at all values since the last look; one that is not finite ends the run, and is named.

    The loop looks every ``interval`` steps and before anything is kept of a run.
    """

    def __init__(self, interval: int = 20) -> None:
        self.interval = interval
        self._sums: dict[str, Tensor] = {}  # of what was not looked at yet: inf and NaN stay in them

    def add(self, values: Mapping[str, Tensor], step: int) -> None:
        """Take the values of a step, the ``step``-th; look at them if it is time."""
        add(self._sums, values)
        if step % self.interval == 0:
            self.check(step)

    def check(self, step: int) -> None:
        """Raise a UserError if a term was not finite in a step up to this one; every process must call it."""
        sums, self._sums = processes.means(self._sums), {}  # over all processes, so that all of them stop
        bad = [name for name, value in sums.items() if not math.isfinite(value)]
        if bad:
            terms = [name for name in bad if name != "loss"]
            raise UserError(
                f"up to step {step}: not finite: {', '.join(terms) or 'the sum of the losses'}; "
                "lower the learning rate, or that term's weight"
            )


ROUNDING = 1e-5  # of the loudest term's gradient: what a term of no value may have by float32's rounding
NOTHING = 1e-12  # a smaller value is 0 but for rounding


class TermWarning(UserWarning):
    """A term of the loss teaches nothing, drowns all others, or gets features too faint or too loud for it; or there
    are classes that no label holds.
    """


class GradientWatch:
    """Every ``interval`` steps, the norms of each term's gradient: to all of the student, and at a layer they share.

    They are those of the first process's part of the batch.

    A term that is silent (no gradient to any parameter, but for rounding) or louder than all others together by
    ``dominance`` is warned about, once, by a ``TermWarning``. Loud goes by the shared layer (see ``GradientNorms``), or
    by all parameters where branches share none. A term whose value is 0, too, is silent the second time in a row: a
    batch may lack the labels that it needs. Terms whose schedule has them off are not judged, nor is supervision loud
    while no bind is heard. Teacher features too faint or too loud for the loss are warned of (``Bind.scale_advice``).

    Args:
        record: takes {"step": ..., "gradients": {term: norm}, "shared_layer": path or None, "shared_gradients": {term:
            norm}} and {"step": ..., "warning": text}.
    """

    def __init__(self, record: Callable[[Mapping[str, Any]], None], interval: int, dominance: float = 100.0) -> None:
        self.record, self.interval, self.dominance = record, interval, dominance
        self.warned: set[tuple[str, str]] = set()
        self.idle: set[str] = set()  # terms that were on, of value 0 and without gradient, the last time

    def before(self, model: TrainingModel, step: int) -> None:
        """Have the model measure its gradients in the step after ``step`` others, if it is time."""
        model.watch_gradients = self.interval > 0 and step % self.interval == 0

    def after(self, model: TrainingModel, done: int, values: Mapping[str, Tensor]) -> None:
        """Record and judge what was measured in that step, of those named ``values``."""
        if not model.watch_gradients or not processes.is_main():
            return
        norms, layer, shared = model.gradient_norms
        step = done + 1
        self.record({"step": step, "gradients": norms, "shared_layer": layer, "shared_gradients": shared})
        binds = {f"loss_bind_{name}": bind.is_on(done) for name, bind in model.terms().items()}
        on = {name: norm for name, norm in norms.items() if binds.get(name, True)}
        found = {name: float(values[name]) for name in on}
        found = {name: 0.0 if abs(value) < NOTHING else value for name, value in found.items()}
        faint = ROUNDING * max(on.values(), default=0.0)
        deaf = {k: found[k] for k, norm in on.items() if norm == 0 or (norm <= faint and found[k] == 0)}
        self._judge_silent(deaf, step)
        for name, bind in model.terms().items():
            if bind.is_on(done) and (advice := bind.scale_advice()):
                self._warn(step, f"loss_bind_{name}", "scale", f"is off its scale: {advice}")
        if any(on.get(name, 0.0) > 0 for name in binds):
            self._judge_loud({name: shared.get(name, norm) for name, norm in on.items()}, step)

    def _judge_silent(self, values: Mapping[str, float], step: int) -> None:
        """``values`` of the terms that are on and have no gradient, but for rounding."""
        for name, value in values.items():
            if value != 0 or name in self.idle:
                self._warn(step, name, "silent", "gives the student no gradient: it teaches nothing")
        self.idle = {name for name, value in values.items() if value == 0}

    def _judge_loud(self, norms: Mapping[str, float], step: int) -> None:
        """``norms`` of the terms that are on."""
        for name, norm in norms.items():
            rest = sum(norms.values()) - norm
            if norm > self.dominance * rest > 0:
                text = f"has {norm / rest:.0f} times the gradient of all other terms; lower its weight"
                self._warn(step, name, "loud", text)

    def _warn(self, step: int, name: str, kind: str, text: str) -> None:
        if (name, kind) not in self.warned:
            self.warned.add((name, kind))
            self.record({"step": step, "warning": f"the term {name} {text}"})
            warnings.warn(f"step {step}: the term {name} {text}", TermWarning, stacklevel=2)
