"""Where the time of a training step goes, and what the training loop costs beside a bare one of the same networks.

The loop that runs is the real one (``segkd.training.loop``); its parts are timed from outside.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from segkd import segmentor
from segkd.deploy.runtimes import torch_threads
from segkd.errors import UserError
from segkd.memory import keep_freed_memory
from segkd.segmentor import TrainingModel
from segkd.training import processes, steps
from segkd.training.build import build_model
from segkd.training.config import Config
from segkd.training.first_stage import run_first_stages
from segkd.training.loop import Training
from segkd.training.optim import CRITICS
from segkd.training.steps import Batch
from segkd.training.watch import TermWarning
from segkd.workbench import Progress, Row, silent
from segkd.workbench.bare_loop import BareLoop
from segkd.workbench.clock import Clock, Part
from segkd.workbench.layers import without_weights
from segkd.workbench.random_images import RandomImages

WARM_UP = 3  # optimiser steps before anything is timed
RARE = 3  # steps in which all is done that a run does every so many steps
NEVER = 1 << 62
DATA, REST, LOG, NORMS = "data", "rest of the loop", "log and checks", "gradient norms"
STUDENT_RUNS, TEACHER_RUNS, BACKWARD = "student forward", "teacher forward", "backward"
OPTIMISER, CRITIC, AVERAGE = "optimiser", "critic", "moving average"
#: how the names of the parts begin, in the order of the list
ORDER = (DATA, STUDENT_RUNS, TEACHER_RUNS, "loss_", BACKWARD, OPTIMISER, CRITIC, AVERAGE, "hooks", LOG, NORMS, REST)


class StepTimes(NamedTuple):
    """A training step taken apart.

    rows: {"name", "ms", "share"} of each part, in the order in which it runs; they add up to ``step_ms``.
    step_ms: of a step with all that belongs to it; on a GPU with a wait after each part.
    loop_ms, bare_ms: of a step of the loop without loading data, and of a bare one, in turns: medians. The loop's has
        the share of what it does every so many steps (log, gradient norms) in it.
    ratio, ratio_iqr: of these two, turn by turn: median and quartile distance.
    ratio_with_data: ``ratio`` with what the loop waits for data.
    images_per_second: of the loop, data included.
    peak_memory_mib: of the loop's steps on a GPU (gradient norms left out); None on a CPU.
    about: device, threads, precision, channels_last, batch, crop, accumulate, repeats, untrained, random_images.
    """

    rows: list[Row]
    step_ms: float
    loop_ms: float
    bare_ms: float
    ratio: float
    ratio_iqr: float
    ratio_with_data: float
    images_per_second: float
    peak_memory_mib: float | None
    about: dict[str, Any]


def time_step(
    cfg: Mapping[str, Any],
    repeats: int = 20,
    untrained: bool = False,
    random_images: bool = False,
    progress: Progress = silent,
) -> StepTimes:
    """Times of a config's training step, on its device, with its threads, precision, batch and crop.

    Nothing is kept of the run, first stages are left out (what they train is frozen, as after them), and the learning
    rate is 0, so that nothing diverges.

    Args:
        cfg: from ``segkd.training.configfile.load_config``.
        repeats: optimiser steps in which the parts are timed, and turns of the loop and the bare one.
        untrained: take networks as they are made; no weights are read.
        random_images: take noise of the crop's size in place of the data set: data then costs augmentation alone.
        progress: told how far it is.

    Raises:
        UserError: a wrong config; weights or data that are missing, where they were not waived.
    """
    if processes.is_distributed():
        raise UserError("the step of one process is timed; start it without torchrun")
    keep_freed_memory()
    repeats, cfg = max(repeats, 2), dict(cfg)
    if untrained:
        cfg["model"] = without_weights(cfg["model"])
    config = Config.of(cfg)
    total = (WARM_UP + RARE + 2 * repeats) * config.optim.accumulate + 1
    cfg["schedule"] = dict(steps=total, policy="constant")
    model = build_model(cfg)
    if random_images:
        cfg["data"] = _noise(cfg["data"], model)
    with tempfile.TemporaryDirectory() as folder, torch_threads(config.engine.threads or torch.get_num_threads()):
        training = Training(cfg, Path(folder) / "run", False, (), model)
        measurement = _Measurement(training, repeats, progress)
        with training.open_folder(), closing(training.loaders["train"]), closing(training.loaders["val"]), _calm():
            run_first_stages(training.cfg, training.folder, model, training.data, done=True)
            training.make_ready()
            _hold_still(training.optimizers.values())
            measurement.run()
    about = {"untrained": untrained, "random_images": random_images}
    return measurement.result(about | {"crop": cfg["data"]["augment"].get("crop_size")})


@contextmanager
def _calm() -> Iterator[None]:
    """Inside, terms that teach nothing are not warned of: nothing is taught here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TermWarning)
        yield


def _hold_still(optimizers: Iterable[Optimizer]) -> None:
    """Let optimisers do their work without any effect."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = 0.0


def _noise(data: Mapping[str, Any], model: TrainingModel) -> dict[str, Any]:
    """The data section of a config with noise for images."""
    size = data["augment"].get("crop_size")
    if size is None:
        raise UserError("the config has no data.augment.crop_size, which random images take their size from")
    made = dict(
        type=RandomImages, num_classes=model.student.num_classes, size=tuple(size), channels=model.student.channels
    )
    return {**data, "dataset": made, "train": {}, "val": {}, "test": None}


class _Measurement:
    """Feeds the loop its batches, and measures between them: warm-up, parts, rare parts, turns with the bare loop."""

    def __init__(self, training: Training, repeats: int, progress: Progress) -> None:
        self.training, self.repeats, self.progress = training, repeats, progress
        self.accumulate = training.cfg.optim.accumulate
        self.device = training.device
        self.wait: Callable[[], object] = torch.cuda.synchronize if self.device.type == "cuda" else _no_wait
        self.parts, self.rare = Clock(self.wait), Clock(self.wait)
        self.turns: dict[str, list[float]] = {"loop": [], "bare": []}
        self.peak: float | None = None

    def run(self) -> None:
        """Let the loop take the steps that ``__iter__`` feeds it."""
        self.loader = self.training.loaders["train"]
        self.training.loaders["train"] = self  # type: ignore[assignment]
        self.training.run_steps()

    def __len__(self) -> int:
        return self.training.max_iters

    @property
    def skipped(self) -> Counter[str]:
        """What the loader has passed over."""
        return self.loader.skipped

    def __iter__(self) -> Iterator[Batch]:
        batches, training = iter(self.loader), self.training
        intervals = {LOG: training.log_interval, NORMS: training.watch.interval}
        self.rarely(NEVER)
        yield from self.some(batches, WARM_UP)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        yield from self.measured(batches, self.parts, self.repeats)
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated() / 2**20
        self.rarely(1, intervals[NORMS] > 0)
        yield from self.measured(batches, self.rare, RARE)
        self.often = {k: self.rare.seconds[k] / RARE / self.accumulate / v for k, v in intervals.items() if v}
        self.rarely(NEVER)
        kept = list(self.some(batches, 1))
        yield from self.in_turns(kept)

    def some(self, batches: Iterator[Batch], optimiser_steps: int) -> Iterator[Batch]:
        """The batches of so many optimiser steps."""
        return (next(batches) for _ in range(optimiser_steps * self.accumulate))

    def rarely(self, interval: int, norms: bool = False) -> None:
        """Let the loop do every ``interval`` steps what it does every so often."""
        self.training.log_interval = self.training.finite.interval = interval
        self.training.watch.interval = interval if norms else 0

    def measured(self, batches: Iterator[Batch], clock: Clock, optimiser_steps: int) -> Iterator[Batch]:
        """Batches, while the loop's parts are timed."""
        with clock.watching(*_calls(self.training, clock)), clock.part(REST):
            for done in range(optimiser_steps * self.accumulate):
                with clock.part(DATA):
                    batch = next(batches)
                yield batch
                with clock.part("progress"):
                    self.progress("timing the parts", done // self.accumulate + 1, optimiser_steps)
        del clock.seconds["progress"]

    def in_turns(self, batches: list[Batch]) -> Iterator[Batch]:
        """The same batches, from memory, for the loop and for a bare one, each of which begins every other turn."""
        bare = BareLoop(self.training)
        _hold_still(bare.optimizers)
        bare.step(batches)
        for turn in range(self.repeats):
            if turn % 2:
                with self.turn("bare"):
                    bare.step(batches)
            with self.turn("loop"):
                yield from batches
            if not turn % 2:
                with self.turn("bare"):
                    bare.step(batches)
            self.progress("timing the loop and a bare one", turn + 1, self.repeats)

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Time what runs inside, in ms per batch."""
        self.wait()
        began = time.perf_counter()
        yield
        self.wait()
        self.turns[name].append((time.perf_counter() - began) * 1e3 / self.accumulate)

    def result(self, about: dict[str, Any]) -> StepTimes:
        """What was found."""
        count = self.repeats * self.accumulate
        ms = {name: 1e3 * seconds / count for name, seconds in self.parts.seconds.items()}
        rest = ms.pop(REST)
        ms |= {name: 1e3 * seconds for name, seconds in self.often.items()} | {REST: rest}
        step, data, extra = sum(ms.values()), ms[DATA], sum(self.often.values()) * 1e3
        loop, bare = statistics.median(self.turns["loop"]) + extra, statistics.median(self.turns["bare"])
        ratios = [(a + extra) / b for a, b in zip(self.turns["loop"], self.turns["bare"], strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
        cfg = self.training.cfg
        about |= {
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads() if cfg.engine.threads is None else cfg.engine.threads,
            "precision": cfg.engine.precision,
            "channels_last": cfg.engine.channels_last,
            "batch": cfg.data.batch_size,
            "accumulate": self.accumulate,
            "repeats": self.repeats,
        }
        return StepTimes(
            [{"name": name, "ms": ms[name], "share": ms[name] / step} for name in sorted(ms, key=_place)],
            step, loop, bare, ratio, high - low, ratio * (loop + data) / loop,
            1e3 * cfg.data.batch_size / (loop + data), self.peak, about,
        )  # fmt: skip


def _place(name: str) -> int:
    """Where a part stands in the list; teachers and terms keep the order in which they ran."""
    return next(place for place, beginning in enumerate(ORDER) if name.startswith(beginning))


def _calls(training: Training, clock: Clock) -> Iterator[tuple[Any, str, Part]]:
    """(owner, attribute, part) of all calls that make a step, where the loop finds them."""
    model = training.model
    yield steps, "on_device", DATA
    teachers: dict[str, Any] = getattr(model, "teachers", {})
    many = len(teachers) > 1
    forward = {id(network): TEACHER_RUNS + (f" {name}" if many else "") for name, network in teachers.items()}
    yield model, "run", lambda network, *_: forward.get(id(network), STUDENT_RUNS)
    supervision: Any = getattr(model, "supervision", None)
    if supervision is not None:
        yield supervision, "_output", lambda name, *_: f"loss_{name}"
        yield supervision, "_term", lambda name, *_: f"loss_{name}"
    for name, bind in model.terms().items():
        yield bind, "forward", f"loss_bind_{name}"
    for name, minimizer in training.minimizers.items():
        yield minimizer, "minimize", CRITIC if name == CRITICS else OPTIMISER
    if CRITICS in training.minimizers:
        yield model, "critic_losses", CRITIC
    yield Tensor, "backward", lambda *_: CRITIC if CRITIC in clock.inside else BACKWARD
    if training.average:
        yield training.average, "update", AVERAGE
    yield training.hooks, "call", "hooks"
    yield training, "write", LOG
    yield training.means, "take", LOG
    yield training.finite, "check", LOG
    yield training.watch, "before", NORMS
    yield training.watch, "after", NORMS
    yield segmentor, "gradient_norms", NORMS


def _no_wait() -> None:
    """A CPU has done what it was given."""
