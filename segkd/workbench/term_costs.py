"""What each distillation term costs beside its student: forward and backward of both, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segkd.binding import Bind
from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.training.build import build_model
from segkd.training.config import Config
from segkd.training.precision import Precision, settle_precision, to_channels_last
from segkd.workbench import Progress, Row, silent
from segkd.workbench.layers import without_weights

WARM_UP = 2
Change = Callable[[Distiller], object]


class Batch(NamedTuple):
    """Images (N, 3, H, W) uint8 of noise, labels (N, H, W) in blocks of one class, and the samples' numbers (N,)."""

    image: Tensor
    label: Tensor
    number: Tensor


def time_terms(
    cfg: Mapping[str, Any], repeats: int = 15, ready: Change | None = None, progress: Progress = silent
) -> list[Row]:
    """Times of each bind of a distillation's config beside its student's, on this CPU and with torch's threads.

    Networks are as they are made, no weights are read; images are noise of the config's crop and batch. A term is all
    that its bind does from the taps on: connector, resizing, draw, loss, the gradient to the taps and to its own parts,
    a critic's loss, and what a loss does after the step. The student is its forward pass in training, and the backward
    pass from its logits, without the losses of labels.

    Args:
        cfg: from ``segkd.training.configfile.load_config``.
        repeats: turns, in each of which the student and every term run once.
        ready: called with the model before anything runs: to fill a loss's memory.
        progress: told how far it is.

    Returns:
        A row {"bind", "loss", "ms", "student_ms", "ratio", "ratio_low", "ratio_high", "cpu_ratio"} for each bind:
        medians, the quartiles of the ratios turn by turn, and the ratio in time of the CPU (which a machine that is
        busy with other work stretches less).

    Raises:
        UserError: a wrong config, or one without binds or crop.
    """
    config = settle_precision(Config.of(dict(cfg)), torch.device("cpu"))
    crop = cfg["data"]["augment"].get("crop_size")
    if crop is None:
        raise UserError("the config has no data.augment.crop_size, which the images take their size from")
    model = build_model({**cfg, "model": without_weights(cfg["model"])})
    if not isinstance(model, Distiller):
        raise UserError("the config has no teacher, and so no terms to time")
    if config.engine.channels_last:
        to_channels_last(model)
    if ready is not None:
        ready(model)
    batch = noise(config.data.batch_size, tuple(crop), model.student.num_classes, model.student.channels)
    runs = _runs(model.train(), batch, Precision(config.engine.precision, "cpu"))
    wall, cpu = _in_turns(runs, repeats, progress)
    return [_row(name, bind, wall, cpu) for name, bind in model.terms().items()]


def noise(samples: int, crop: tuple[int, int], num_classes: int, channels: int = 3) -> Batch:
    """A batch of noise, the same each time; the labels' blocks are of 16 x 16."""
    source = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (samples, channels, *crop), generator=source, dtype=torch.uint8)
    coarse = torch.randint(0, num_classes, (samples, *(-(-side // 16) for side in crop)), generator=source)
    label = coarse.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, : crop[0], : crop[1]].contiguous()
    return Batch(image, label, torch.arange(samples))


def _runs(model: Distiller, batch: Batch, precision: Precision) -> dict[str, Callable[[], None]]:
    """The student's forward and backward pass under "", and each term's under its bind's name."""
    paths = [path for bind in model.terms().values() for path in bind.student_paths]
    with torch.no_grad(), precision.autocast():
        logits, tapped = model.run(model.student, paths, batch.image)
        features = {path: x.detach() for path, x in tapped.items()}
        targets = model.teach(batch.image)
    slope = torch.full_like(logits, 1 / logits.numel())

    def student() -> None:
        with precision.autocast():
            made, _ = model.run(model.student, [], batch.image)
        torch.autograd.backward(made, slope)
        model.zero_grad()

    runs: dict[str, Callable[[], None]] = {"": student}
    for name, bind in model.terms().items():
        given = {path: features[path].clone().requires_grad_() for path in bind.student_paths}
        runs[name] = _term(bind, given, targets.get(name) or _targets(model, name, batch), batch, precision)
    return runs


def _targets(model: Distiller, name: str, batch: Batch) -> Mapping[str, Tensor]:
    """The teacher's features of a bind that is off in the main training."""
    return model.taught({name: model.terms()[name]}, batch.image)[name]


def _term(
    bind: Bind, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Batch, precision: Precision
) -> Callable[[], None]:
    step = iter(range(1 << 62))

    def run() -> None:
        with precision.autocast():
            value = bind.value(student, teacher, batch.label, batch.image, next(step), batch.number)
        torch.autograd.backward(value)
        critic = bind.critic_loss()
        if critic is not None:
            torch.autograd.backward(critic)
        bind.loss.after_step()
        bind.zero_grad()
        for feature in student.values():
            feature.grad = None

    return run


def _in_turns(
    runs: Mapping[str, Callable[[], None]], repeats: int, progress: Progress
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds of every turn by the clock on the wall, and of the CPU; every other turn in reversed order."""
    for _ in range(WARM_UP):
        for run in runs.values():
            run()
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats):
        for name in runs if turn % 2 == 0 else reversed(list(runs)):
            began, worked = time.perf_counter(), time.process_time()
            runs[name]()
            wall[name].append((time.perf_counter() - began) * 1e3)
            cpu[name].append((time.process_time() - worked) * 1e3)
        progress("timing the terms", turn + 1, repeats)
    return wall, cpu


def _row(name: str, bind: Bind, wall: Mapping[str, list[float]], cpu: Mapping[str, list[float]]) -> Row:
    low, middle, high = statistics.quantiles(_ratios(wall, name), n=4, method="inclusive")
    return {
        "bind": name,
        "loss": type(bind.loss).__name__,
        "ms": statistics.median(wall[name]),
        "student_ms": statistics.median(wall[""]),
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
        "cpu_ratio": statistics.median(_ratios(cpu, name)),
    }


def _ratios(times: Mapping[str, list[float]], name: str) -> list[float]:
    return [term / student for term, student in zip(times[name], times[""], strict=True)]
