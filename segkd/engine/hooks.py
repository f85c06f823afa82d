"""Hooks of every run: bit-equal randomness, run files, progress, and a guard against broken losses."""

from __future__ import annotations

import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from segkd.engine import distributed
from segkd.engine.checkpoint import BEST, LAST, LOG, STATE, append, bare, save_state, save_student
from segkd.engine.optimizers import students
from segkd.engine.precision import to_channels_last
from segkd.errors import UserError


def over_processes(values: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """The means over all processes of named scalars; every process must ask for the same names."""
    if not values:
        return {}
    means = distributed.mean(torch.stack([value.detach().double().reshape(()) for value in values.values()]))
    return dict(zip(values, means.tolist(), strict=True))


def add(sums: dict[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    """Add named scalars to their sums, in place."""
    for name, value in values.items():
        sums[name] = sums[name] + value.detach() if name in sums else value.detach().clone()


class StepSeedHook(Hook):
    """Seeds torch from (seed, step) before each step, so that dropout is the same in all arms and after a resume."""

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        distributed.seed_step(runner.seed or 0, runner.iter)
        model = bare(runner.model)
        model.step, model.seed = runner.iter, runner.seed or 0


class AfterStepHook(Hook):
    """Tells the model when the optimiser has taken a step, for memory banks: once under gradient accumulation too."""

    priority = "HIGH"

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        if students(runner.optim_wrapper).should_update():
            bare(runner.model).after_step()


class ChannelsLastHook(Hook):
    """Puts the model's convolutions into channels_last, which is faster on CPUs with bf16 and on tensor cores."""

    def before_run(self, runner: Runner) -> None:
        to_channels_last(runner.model)


class ParallelHook(Hook):
    """Averages gradients over the processes that train together; statistics of BatchNorm are the first one's.

    Before training and not earlier, as other hooks change how parameters lie in memory.
    """

    priority = "LOW"

    def before_train(self, runner: Runner) -> None:
        model = bare(runner.model)
        distributed.synchronised(model)
        critics = model.critic_parameters()
        distributed.average_gradients(critics)
        resting = not all(bind.is_on(runner.max_iters - 1) for bind in model.terms().values())
        model.parallel[:] = [distributed.parallel(model, apart=critics, unused=resting)]

    def before_val(self, runner: Runner) -> None:
        distributed.share_buffers(bare(runner.model))

    def after_train(self, runner: Runner) -> None:
        bare(runner.model).parallel.clear()


class FiniteLossHook(Hook):
    """Stops at a term that is not finite, and names it.

    It looks every ``interval`` steps, at all steps since the last look, and whenever ``check`` is called: before
    anything is kept of a run.
    """

    priority = "HIGH"

    def __init__(self, interval: int = 20) -> None:
        self.interval = interval
        self._sums: dict[str, torch.Tensor] = {}  # of what was not looked at yet: inf and NaN stay in them

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        add(self._sums, outputs or {})
        if self.every_n_train_iters(runner, self.interval):
            self.check(runner.iter + 1)

    def before_val(self, runner: Runner) -> None:
        self.check(runner.iter)

    def check(self, step: int) -> None:
        """Raise a UserError if a term was not finite in a step up to this one; every process must call it."""
        sums, self._sums = over_processes(self._sums), {}  # over all processes, so that all of them stop
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
    """A term of the loss teaches nothing, drowns all others, or gets features too faint or too loud for it."""


class GradientWatchHook(Hook):
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

    priority = "NORMAL"

    def __init__(self, record: Callable[[Mapping[str, Any]], None], interval: int, dominance: float = 100.0) -> None:
        self.record, self.interval, self.dominance = record, interval, dominance
        self.warned: set[tuple[str, str]] = set()
        self.idle: set[str] = set()  # terms that were on, of value 0 and without gradient, the last time

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        bare(runner.model).watch_gradients = runner.iter % self.interval == 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        model = bare(runner.model)
        if not model.watch_gradients or outputs is None:
            return
        if not distributed.is_main():
            return
        norms, layer, shared = model.gradient_norms
        step = runner.iter + 1
        self.record({"step": step, "gradients": norms, "shared_layer": layer, "shared_gradients": shared})
        binds = {f"loss_bind_{name}": bind.is_on(runner.iter) for name, bind in model.terms().items()}
        on = {name: norm for name, norm in norms.items() if binds.get(name, True)}
        values = {name: float(outputs[name]) for name in on}
        values = {name: 0.0 if abs(value) < NOTHING else value for name, value in values.items()}
        faint = ROUNDING * max(on.values(), default=0.0)
        deaf = {k: values[k] for k, norm in on.items() if norm == 0 or (norm <= faint and values[k] == 0)}
        self._judge_silent(deaf, step)
        for name, bind in model.terms().items():
            if bind.is_on(runner.iter) and (advice := bind.scale_advice()):
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


class RunFilesHook(Hook):
    """Keeps a run folder: state to resume from, student weights (last, best on validation), and a log in JSON lines.

    A state that is due while gradients accumulate is kept once the optimiser has stepped: what has accumulated is not
    in it, and a resumed run shall equal an uninterrupted one.

    Args:
        run: the folder.
        interval: steps between states.
        log_interval: steps between log lines, each with the means over the steps since the last.
        finite: looks at the losses before a state or weights are kept.
        best: the best score so far, of a resumed run.
    """

    priority = "LOW"

    def __init__(
        self,
        run: Path,
        interval: int,
        log_interval: int,
        finite: FiniteLossHook,
        best: Mapping[str, Any] | None = None,
    ) -> None:
        self.run, self.interval, self.log_interval, self.finite = run, interval, log_interval, finite
        self.best: dict[str, Any] = dict(best or {})
        self.history: list[dict[str, Any]] = []
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: Counter[str] = Counter()  # a term may be in some steps alone
        self._since, self._timed = time.perf_counter(), 0  # without validations
        self._lr = 0.0
        self._due = False

    def before_train(self, runner: Runner) -> None:
        self._since = time.perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._lr = float(students(runner.optim_wrapper).get_lr()["lr"][0])  # after the step the scheduler has moved on

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        add(self._sums, outputs or {})
        self._counts.update(list(outputs or ()))
        self._timed += 1
        step = runner.iter + 1
        if step % self.log_interval == 0 or step == runner.max_iters:
            self._log_means(runner, step)
        self._due |= step % self.interval == 0
        if self._due and step < runner.max_iters and students(runner.optim_wrapper).should_update():
            self._save(runner, step)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        score = float((metrics or {}).get("mIoU", math.nan))
        record = {"step": runner.iter, "val": {k: float(v) for k, v in (metrics or {}).items()}}
        self.history.append(record)
        self.write(record)
        if not self.best or score > self.best["mIoU"]:
            self.best = {"mIoU": score, "step": runner.iter}
            self._save_student(runner, BEST)
            self._due = True  # the state of this step was saved before its validation
            if runner.iter < runner.max_iters and students(runner.optim_wrapper).should_update():
                self._save_state(runner)
        self._since, self._timed = time.perf_counter(), 0

    def after_train(self, runner: Runner) -> None:
        self._save_student(runner, LAST)
        self._save_state(runner)

    def _save(self, runner: Runner, step: int) -> None:
        loop = runner.train_loop
        loop._iter, before = step, loop._iter  # the state belongs to the step that has just been taken
        self._save_state(runner)
        loop._iter = before

    def _save_student(self, runner: Runner, name: str) -> None:
        self.finite.check(runner.iter)
        if distributed.is_main():
            save_student(runner.model, self.run / name)

    def _save_state(self, runner: Runner) -> None:
        self._due = False
        self.finite.check(runner.iter)
        if distributed.is_main():
            save_state(runner, self.run / STATE, self.best)

    def _log_means(self, runner: Runner, step: int) -> None:
        seconds = (time.perf_counter() - self._since) / max(self._timed, 1)
        record: dict[str, Any] = {"step": step, "lr": self._lr}
        record |= {name: value / self._counts[name] for name, value in over_processes(self._sums).items()}
        record["seconds_per_step"] = round(seconds, 4)
        self.write(record)
        self._sums, self._timed, self._since = {}, 0, time.perf_counter()
        self._counts.clear()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line to the log."""
        if distributed.is_main():
            append(self.run / LOG, record)


class CallbackHook(Hook):
    """Reports steps and validations to a caller (a progress bar).

    Args:
        on_step: called with (step, total, loss) after each step.
        on_val: called with (step, metrics) after each validation.
        interval: steps between calls of ``on_step``.
        on_val_step: called with (images done, images) during a validation.
    """

    def __init__(
        self,
        on_step: Callable[[int, int, float], None],
        on_val: Callable[[int, Mapping[str, float]], None] | None = None,
        interval: int = 5,
        on_val_step: Callable[[int, int], None] | None = None,
    ) -> None:
        self.on_step, self.on_val, self.interval, self.on_val_step = on_step, on_val, interval, on_val_step

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        step = runner.iter + 1
        if outputs and (step % self.interval == 0 or step == runner.max_iters):
            self.on_step(step, runner.max_iters, float(outputs["loss"]))

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.on_val_step:
            self.on_val_step(batch_idx + 1, len(runner.val_dataloader))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self.on_val:
            self.on_val(runner.iter, metrics or {})
