"""The first steps of a training tried out: each term's value and gradient, time, memory, and the disk that it needs."""

from __future__ import annotations

import math
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segkd.datasets.loading import to_tensors
from segkd.distiller import Distiller
from segkd.evaluation.speed import MIB, measure_memory
from segkd.training.loop import Training
from segkd.training.optim import STUDENT
from segkd.training.steps import Batch, Stretch, Values, on_device, take_steps
from segkd.training.watch import NOTHING, ROUNDING
from segkd.workbench import Row
from segkd.workbench.findings import ERROR, FINE, WARNING, Finding

LOUD = 100.0  # times the gradient of the label's terms
STEPS, SECONDS = 2, 5.0  # timed; after so many seconds no further one is begun
PICTURE_BYTES = 2.5  # of a pixel drawn at a validation: image, truth and prediction as PNG
BIND = "loss_bind_"


@dataclass
class FirstSteps:
    """What was measured.

    Attributes:
        terms: {"name", "value", "gradient", "shared_gradient", "pull"} of each term at its full weight: its norms to
            all of the student and at the layer that all terms share, and that norm by the one of the label's terms.
        layer: path of that layer.
        step: {"seconds_per_step", "seconds_per_batch" (loading, in one process), "seconds_per_validation",
            "seconds_in_all", "steps", "peak_memory_mib", "disk_bytes", "free_bytes"}.
        findings: what is wrong.
    """

    terms: list[Row] = field(default_factory=list)
    layer: str | None = None
    step: Row = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


class _Trial:
    """Steps of a training that is thrown away, at a learning rate of 0."""

    def __init__(self, training: Training) -> None:
        self.training, self.device = training, training.device
        self.batches: list[Batch] = []
        self.times: list[float] = []
        self.values: Values = {}

    def run(self) -> None:
        """A step whose gradients are watched, then some that are timed."""
        training = self.training
        for minimizer in training.minimizers.values():
            for group in minimizer.optimizer.param_groups:
                group["lr"] = 0.0
        take_steps(
            Stretch(
                training.model, lambda batch: training.model(**batch), training.minimizers, training.precision,
                self.feed(), 0, training.seed, self.before, self.after,
            )
        )  # fmt: skip

    def feed(self) -> Iterator[Batch]:
        """One batch to warm up, then the other one again and again."""
        yield self.batches[0]
        began = time.perf_counter()
        while len(self.times) < STEPS and (not self.times or time.perf_counter() - began < SECONDS):
            yield self.batches[-1]

    def before(self, step: int, batch: Batch) -> None:
        self.training.model.watch_gradients = step == 0
        self.wait()
        self.began = time.perf_counter()

    def after(self, step: int, batch: Batch, values: Values) -> None:
        if self.training.minimizers[STUDENT].stepped():
            self.training.model.after_step()
        self.wait()
        if step:
            self.times.append(time.perf_counter() - self.began)
        else:
            self.values = values

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def try_steps(training: Training, folder: Path, workers: int = 0) -> FirstSteps:
    """Values, gradients and cost of a training's first steps; the training is of no use afterwards.

    Every term counts with its full weight, whatever its schedule. On a CPU, memory is that of the whole process.

    Args:
        training: built, not begun, and without loading processes of its own (data.workers=0).
        folder: where the run will lie.
        workers: processes that will load its batches.
    """
    found = FirstSteps()
    training.make_ready()
    for bind in training.model.terms().values():
        bind.schedule = type(bind.schedule)()  # always 1
    found.findings += _first_stages(training)
    trial = _Trial(training)
    loading = _load(trial)
    before = _memory(training.device)
    try:
        memory = before + measure_memory(trial.run, training.device).mib
    except torch.OutOfMemoryError as error:
        what = f"a step does not fit into the memory of {training.device} ({str(error).splitlines()[0][:120]})"
        found.findings.append(Finding(ERROR, what, "lower data.batch_size or data.augment.crop_size"))
        return found
    _judge_terms(training, trial.values, found)
    validation = _validation(training)
    found.step = _cost(training, statistics.median(trial.times), loading, workers, validation)
    found.step |= {"peak_memory_mib": memory, **_disk(training, folder)}
    found.findings += _of_cost(found.step, workers)
    return found


def _load(trial: _Trial) -> float:
    """Load two batches; the seconds that the second took."""
    batches, began = iter(trial.training.loaders["train"]), 0.0
    for _ in range(2):
        began = time.perf_counter()
        batch = next(batches, None)
        if batch is not None:  # a schedule of one step has one batch
            trial.batches.append(batch)
    return time.perf_counter() - began


def _memory(device: torch.device) -> float:
    """MiB that are in use."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / MIB
    import psutil

    return float(psutil.Process().memory_info().rss) / MIB


def _first_stages(training: Training) -> Iterator[Finding]:
    """What a bind's first stage lowers must be a finite number."""
    model, batch = training.model, None
    for name, bind in model.terms().items():
        if not isinstance(model, Distiller) or not bind.first_stage or not bind.first_stage["steps"]:
            continue
        batch = batch or on_device(next(iter(training.loaders["train"])), training.device)
        model.train()
        with training.precision.autocast():
            value = model.first_stage_loss(name, step=0, **batch)
        if not math.isfinite(float(value)):
            what = f"the first stage of bind {name!r} has a loss of {float(value)}"
            yield Finding(ERROR, what, "see to the features it gets")


def _judge_terms(training: Training, values: Mapping[str, Tensor], found: FirstSteps) -> None:
    """Rows of all terms, and findings on those that are not finite, silent or loud."""
    norms, found.layer, shared = training.model.gradient_norms
    labels = [name for name in norms if not name.startswith(BIND)]
    heard = shared if sum(shared.get(name, 0.0) for name in labels) > 0 else norms
    task = sum(heard.get(name, 0.0) for name in labels)
    faint = ROUNDING * max(norms.values(), default=0.0)
    for name, norm in norms.items():
        value = float(values[name])
        pull = heard.get(name, 0.0) / task if task else None
        row = {"name": name, "value": value, "gradient": norm, "shared_gradient": shared.get(name), "pull": pull}
        found.terms.append(row)
        bind = training.model.terms().get(name.removeprefix(BIND)) if name.startswith(BIND) else None
        if bind is None or bind.is_on(0):
            found.findings += _of_term(row, bind, faint)


def _of_term(row: Row, bind: Any, faint: float) -> Iterator[Finding]:
    name, value, norm = row["name"], row["value"], row["gradient"]
    kind = f" ({type(bind.loss).__name__})" if bind is not None else ""
    if not (math.isfinite(value) and math.isfinite(norm)):
        what = f"the term {name}{kind} is {value:g} on the first batch, with a gradient of {norm:g}"
        yield Finding(ERROR, what, "see to the features it gets, its temperature and engine.precision")
        return
    if norm == 0 or (norm <= faint and abs(value) < NOTHING):
        empty = abs(value) < NOTHING
        what = f"the term {name}{kind} gives the student no gradient: it teaches nothing (value {value:.3g})"
        cure = "fine if this batch lacks what it looks for" if empty else "tap a layer that the student's output needs"
        yield Finding(WARNING if empty else ERROR, what, cure)
    if bind is None:
        return
    if advice := bind.scale_advice():
        yield Finding(WARNING, f"the term {name}{kind} is off its scale: {advice}")
    if row["pull"] is not None and row["pull"] > LOUD and not bind.first_learner():
        what = f"the term {name}{kind} pulls {row['pull']:.0f} times as hard as the labels"
        yield Finding(WARNING, what, f"weight={bind.weight / row['pull']:.2g} in its bind makes them equal")


@torch.no_grad()
def _validation(training: Training) -> float:
    """Seconds that the student takes for all validation images, by the second of two calls for one."""
    dataset: Any = training.loaders["val"].dataset
    began, network = 0.0, training.model.student.eval()
    for _ in range(2):
        began = time.perf_counter()
        image = to_tensors(dataset.dataset[0], 0)["image"][None]
        network.predict(image.to(training.device)).argmax(dim=1).cpu()
    return (time.perf_counter() - began) * len(dataset)


def _cost(training: Training, step: float, loading: float, workers: int, validation: float) -> Row:
    """Times, and what they come to; a step waits for data where that takes longer than the step itself."""
    each = max(step, loading / workers) if workers else step + loading
    first = sum(b.first_stage["steps"] for b in training.model.terms().values() if b.first_stage)
    whole = each * (training.max_iters + first) + validation * math.ceil(training.max_iters / training.interval)
    return {
        "seconds_per_step": step,
        "seconds_per_batch": loading,
        "seconds_per_validation": validation,
        "seconds_in_all": whole,
        "steps": training.max_iters,
    }


def _disk(training: Training, folder: Path) -> Row:
    """Bytes of a run's files, the state twice (a new one is written beside the old), and what is free for them."""
    model, optimizers = training.model, training.optimizers.values()
    moments = sum(_bytes(one.state_dict()) for one in optimizers) or 2 * _bytes(dict(model.named_parameters()))
    state = _bytes(model.state_dict()) + moments
    student = _bytes(model.student.state_dict())
    kept = 3 if training.cfg.engine.ema else 2
    stages = sum(_bytes(bind.state_dict()) + student for bind in model.terms().values() if bind.first_stage)
    validations = math.ceil(training.max_iters / training.interval)
    dataset: Any = training.loaders["val"].dataset
    drawn = min(training.cfg.engine.val_images, len(dataset))
    pictures = int(PICTURE_BYTES * dataset.dataset[0][1].size * drawn * validations)
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    need = 2 * state + (kept + 1) * student + stages + pictures
    return {"disk_bytes": need, "free_bytes": shutil.disk_usage(above).free}


def _bytes(value: Any) -> int:
    """Bytes of all tensors in a state."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


def _of_cost(step: Row, workers: int) -> Iterator[Finding]:
    need, free = step["disk_bytes"] / MIB, step["free_bytes"] / MIB
    if need > free:
        what = f"the run's files need {need:,.0f} MiB, but {free:,.0f} MiB are free on the disk"
        yield Finding(ERROR, what, "make room, or choose another --out")
    if (loading := step["seconds_per_batch"]) / max(workers, 1) > step["seconds_per_step"]:
        what = f"loading a batch takes {loading:.2g} s in one process, a step {step['seconds_per_step']:.2g} s"
        yield Finding(FINE, what, f"with more than data.workers={workers}, steps wait less for their data")
