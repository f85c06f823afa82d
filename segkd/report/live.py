"""What a person sees while a network trains: what is trained on what, how it goes, its scores, the IoU per class."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console

from segkd.report.screens import Screen, screen, tell
from segkd.report.tables import class_table

PERCENT = ("mIoU", "mAcc", "aAcc")
TITLES = {"aAcc": "pixel accuracy"}
LOGGED = ("mAcc",)  # is in the log alone


class Live:
    """A view of a training, which is one of its hooks; only the first of several processes shows anything.

    In a terminal and a notebook, step, rate, losses, speed, time left and best score stay in place and change at most
    once a second; elsewhere they are lines (see ``segkd.report.screens.Lines``). The losses are those of the step
    shown, of the first process's part of the batch; they are read only then, as reading makes a GPU wait.

        with Live("my run") as live:
            train(cfg, folder, hooks=[live], on_first_stage=live.first_stage)

    Args:
        title: what is trained, in front of the first line.
        console: rich's; standard output by default.
        per_class: show the IoU of every class at the end.
    """

    priority = "VERY_LOW"

    def __init__(self, title: str = "", console: Console | None = None, per_class: bool = True) -> None:
        self.per_class = per_class
        self.title, self.console = title, console or Console()
        self.screen: Screen = screen(self.console)
        self.begun = self.silent = False
        self.pace = Pace()
        self.iou: dict[int, Sequence[float]] = {}

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *error: object) -> None:
        self.screen.close()

    def after_image_kept(self, training: Any, said: str, done: int, total: int) -> None:
        """Show how far the decoded images are that are kept before the first step."""
        if done == 0:
            tell(self.console, [f"  {said}"])
        if self.screen.due(done, total) and done < total:
            self.screen.show(["decoding", f"image {done}/{total}"], done, total)
        if done == total:
            self.screen.close()

    def before_first_stages(self, training: Any) -> None:
        """Tell what is trained on what."""
        self.begun, self.silent = True, training.rank != 0
        if not self.silent:
            tell(self.console, start_line(training, self.title))
            for note in training.notes:
                tell(self.console, [f"  {note}"])

    def first_stage(self, record: Mapping[str, Any]) -> None:
        """Show a first stage, told by {"first_stage": name, "step": ..., "steps": ..., "loss": ...}."""
        step, steps = record["step"], record["steps"]
        if self.screen.due(step, steps):
            parts = [f"first stage of {record['first_stage']}", f"step {step}/{steps}", f"loss {record['loss']:.4g}"]
            self.screen.show(parts, step, steps)

    def before_run(self, training: Any) -> None:
        """Begin with the main training."""
        if not self.begun:
            self.before_first_stages(training)
        self.screen.close()

    def after_train_iter(self, training: Any, batch_idx: int, data_batch: Any, outputs: Mapping[str, Any]) -> None:
        """Show the step if it is time."""
        step, total = training.iter + 1, training.max_iters
        first = not self.pace.marks
        if self.silent or not (first or self.screen.due(step, total)):
            return
        losses = {name: float(value) for name, value in outputs.items()}  # a GPU has done the step once they are here
        self.pace.mark(step)
        parts = [f"step {step}/{total}", f"lr {training.rate:.3g}", *_losses(losses)]
        self.screen.show([*parts, *self._speed(training, step), *best(training)], step, total)

    def before_val(self, training: Any) -> None:
        """Stop the clock of the steps."""
        self.pace.pause()

    def after_val_iter(self, training: Any, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        """Show how far the validation is, where that stays in place or takes long."""
        done, images = batch_idx + 1, len(training.val_dataloader)
        step, total = training.iter, training.max_iters
        if not self.silent and done < images and self.screen.due(step, total):
            self.screen.show([f"step {step}/{total}", f"validating {done}/{images}", *best(training)], step, total)

    def after_val_epoch(self, training: Any, metrics: Mapping[str, float]) -> None:
        """Tell the scores."""
        if self.silent:
            return
        if training.class_scores["val"] is not None:
            self.iou[training.iter] = training.class_scores["val"]
        for key, called in (("val", []), ("val_ema", ["averaged student:"])):
            scores = training.history[-1].get(key, {})
            shown = [f"{TITLES.get(name, name)} {score(name, scores[name])}" for name in scores if name not in LOGGED]
            if shown:
                tell(self.console, [f"  step {training.iter}:", *called, *commas([f"val {shown[0]}", *shown[1:]])])

    def after_val(self, training: Any) -> None:
        """Let the clock of the steps go on."""
        self.pace.go_on()

    def after_run(self, training: Any) -> None:
        """Show the IoU of every class, at the last step and at the best."""
        self.screen.close()
        if self.silent or not self.iou or not self.per_class:
            return
        last, top = max(self.iou), training.best["step"]
        steps = {f"step {last}": last}
        if top != last and top in self.iou:
            steps = {f"best, step {top}": top, f"last, step {last}": last}
        columns = {name: self.iou[step] for name, step in steps.items()}
        if (average := training.class_scores.get("val_ema")) is not None:
            columns[f"averaged, step {last}"] = average
        tell(self.console, ["val IoU per class (%)"])
        self.console.print(class_table(columns, training.data.class_names, title=None))

    def _speed(self, training: Any, step: int) -> list[str]:
        seconds = self.pace.seconds_per_step()
        if not seconds:
            return []
        every, last = training.interval, training.max_iters
        validations = math.ceil(last / every) - (step - 1) // every
        left = (last - step) * seconds + validations * self.pace.pause_lasted
        images = training.cfg.data.batch_size / seconds
        return [f"{images:.3g} images/s", f"{timedelta(seconds=round(left))} left"]


class Pace:
    """The time that steps take, over the last marks; pauses don't count."""

    def __init__(self, marks: int = 20) -> None:
        self.marks: deque[tuple[int, float]] = deque(maxlen=marks)
        self.paused = self.pause_began = self.pause_lasted = 0.0

    def mark(self, step: int) -> None:
        """After ``step`` steps."""
        self.marks.append((step, time.perf_counter() - self.paused))

    def pause(self) -> None:
        """Stop the clock: what follows is no step."""
        self.pause_began = time.perf_counter()

    def go_on(self) -> None:
        """Let the clock run again."""
        self.pause_lasted = time.perf_counter() - self.pause_began
        self.paused += self.pause_lasted

    def seconds_per_step(self) -> float | None:
        """The mean between the oldest and the newest mark; None before there are two."""
        if len(self.marks) < 2:
            return None
        (first, began), (last, ended) = self.marks[0], self.marks[-1]
        return (ended - began) / (last - first)


def start_line(training: Any, title: str = "") -> list[str]:
    """The parts of the first line: device, images, classes, networks, terms, steps, folder."""
    model, where = training.model, str(training.folder)
    begun = f" from step {training.iter} on" if training.iter else ""
    parts = [
        ("" if title in ("", where) else f"{title}: ") + _device(training),
        f"{len(training.data)} training images",
        f"{len(training.loaders['val'].dataset)} validation images",
        f"{training.data.num_classes} classes",
        f"student {_network(model.student)}",
        *(f"{_called(name)} {_network(teacher)}" for name, teacher in getattr(model, "teachers", {}).items()),
    ]
    steps = f"{training.max_iters} steps{begun} of {training.cfg.data.batch_size} images"
    if training.cfg.data.unlabelled is not None:
        steps += f" and {training.cfg.data.unlabelled_ratio:g} times as many without labels"
    return commas([*parts, *_terms(model), steps, f"into {where}"])


def _device(training: Any) -> str:
    kind, hardware = training.device.type, training.environment["hardware"]
    threads = f"{hardware['threads']} thread{'s' * (hardware['threads'] > 1)}"
    one = f"{kind} ({hardware['gpu'] if kind == 'cuda' else threads})"
    several = f"{training.world_size} x " if training.world_size > 1 else ""
    return f"on {several}{one}, {training.cfg.engine.precision}"


def _called(name: str) -> str:
    return name if name == "teacher" else f"teacher {name}"


def _network(network: Any) -> str:
    return f"{type(network).__name__} of {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters"


def _terms(model: Any) -> list[str]:
    """Every term with its weight, as ``short`` names them."""
    supervision = getattr(model, "supervision", None)
    weights = {f"loss_{name}": weight for name, weight in (supervision.weights if supervision else {}).items()}
    weights |= {f"loss_bind_{name}": bind.weight for name, bind in model.terms().items()}
    names = short(weights)
    sums = [("" if weight == 1 else f"{weight:g}*") + names[name] for name, weight in weights.items()]
    return [f"loss {' + '.join(sums)}"] if sums else []


def _losses(values: Mapping[str, float]) -> list[str]:
    """The total and each term."""
    names = short(name for name in values if name != "loss")
    return [f"{names.get(name, name)} {value:.4g}" for name, value in values.items()]


def short(names: Iterable[str]) -> dict[str, str]:
    """Terms without ``loss_`` and ``bind_`` in front of them, but where two would have one name."""
    listed = list(names)
    bare = {name: name.removeprefix("loss_").removeprefix("bind_") for name in listed}
    taken = list(bare.values())
    return {name: text if taken.count(text) == 1 else name.removeprefix("loss_") for name, text in bare.items()}


def best(training: Any) -> list[str]:
    """The best score so far, and its step; nothing before the first validation."""
    name, found = training.chosen_by, training.best
    return [f"best {name} {score(name, found[name])} (step {found['step']})"] if name in found else []


def score(name: str, value: float) -> str:
    """A score as text: percentages with two places."""
    return f"{value:.2f}" if name in PERCENT else f"{value:.4g}"


def commas(parts: Sequence[str]) -> list[str]:
    """Parts with commas between them."""
    return [*(f"{part}," for part in parts[:-1]), *parts[-1:]]
