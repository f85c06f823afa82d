"""One training run, top to bottom: prepare, first stages, steps, validate, keep, finish."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from segkd.datasets import SegmentationDataset
from segkd.datasets.loading import Loader
from segkd.distiller import Distiller
from segkd.models.base import Network
from segkd.report.tables import write_json
from segkd.segmentor import TrainingModel
from segkd.training import processes
from segkd.training.average import Average
from segkd.training.build import build_dataset, build_eval_loader, build_model, build_train_loader
from segkd.training.checks import check_banks, check_classes, check_folder, check_memory, check_optimizers
from segkd.training.config import Config
from segkd.training.configfile import dump_config
from segkd.training.environment import environment
from segkd.training.first_stage import Report, check_first_stages, run_first_stages
from segkd.training.hooks import Hooks, MMEngineNames, build_hooks
from segkd.training.labels import check_some_valid, missing_classes
from segkd.training.log import LOG, Means, append, logger, trim_log, validations
from segkd.training.loggers import display_hooks
from segkd.training.optim import STUDENT, build_minimizers
from segkd.training.precision import Precision, set_teacher_precision, to_channels_last, training_device
from segkd.training.rates import Rates
from segkd.training.state import BEST, EMA, LAST, STATE, load_state, run_folder, save_atomically, save_student
from segkd.training.steps import Batch, Stretch, Values, take_steps
from segkd.training.validation import build_metrics, main_score, score
from segkd.training.watch import FiniteLoss, GradientWatch, TermWarning

State = Mapping[str, Any]


def train(
    cfg: Mapping[str, Any] | Config,
    run: str | Path,
    *,
    resume: bool = False,
    hooks: Sequence[Any] = (),
    model: TrainingModel | None = None,
    on_first_stage: Report | None = None,
) -> dict[str, Any]:
    """Train one config in the folder ``run``; returns what is written to its ``metrics.json``.

    Started by torchrun, the processes share every batch, and the first one writes the files.

    Args:
        cfg: from ``segkd.training.config.load_config``.
        run: the run folder; must be new unless ``resume``.
        resume: go on from the folder's last state.
        hooks: further hooks (progress).
        model: a built training model, else it is built from the config.
        on_first_stage: takes {"first_stage": name, "step": ..., "steps": ..., "loss": ...} as first stages advance.

    Raises:
        UserError: wrong config, data or weights; a folder that already holds a run; nothing to resume.
    """
    with processes.process_group():
        training = Training(cfg, Path(run), resume, hooks, model)
        loaders = training.loaders
        with training.open_folder(), closing(training.hooks), closing(loaders["train"]), closing(loaders["val"]):
            training.run_first_stages(on_first_stage)
            training.make_ready()
            training.run_steps()
            return training.finish()


class Training(MMEngineNames):
    """A run in progress; every hook gets it as its first argument.

    Attributes:
        iter, max_iters: steps done (within a step: before it), and steps of the run.
        model: the training model; ``model.student`` is the network that is trained.
        optimizers: torch's, "student" and, where a loss has one, "critic".
        loaders: "train" and "val".
        logger: what is logged by it goes to the run's log.
        stop_training: set it to True to end the run after the step in progress.
        history: the scores of each validation.
    """

    def __init__(
        self,
        cfg: Mapping[str, Any] | Config,
        folder: Path,
        resume: bool,
        hooks: Sequence[Any],
        model: TrainingModel | None,
    ) -> None:
        """Build all parts, and find mistakes before there is a file."""
        self.given = cfg.to_dict() if isinstance(cfg, Config) else cfg
        self.folder, self.resume = folder, resume
        self.cfg = cfg = Config.of(cfg)
        self.seed = cfg.seed
        if cfg.engine.threads:
            torch.set_num_threads(cfg.engine.threads)
        self.environment = environment(self.seed)
        self.rank, self.world_size, self.device = processes.rank(), processes.world_size(), training_device()
        self.model = model if model is not None else build_model(cfg)
        set_teacher_precision(self.model, cfg.engine.teacher_precision)
        check_first_stages(self.model)
        self.data: SegmentationDataset = build_dataset(cfg, "train")
        validation = build_dataset(cfg, "val")
        self.cfg = cfg = cfg.lasting(len(self.data))
        self.state: State | None = check_folder(folder, cfg, resume, self.model)
        self.iter, self.max_iters = self.state["step"] if self.state else 0, cfg.schedule.steps or 0
        for split, dataset in (("train", self.data), ("val", validation)):
            check_classes(self.model, dataset)
            dataset[0]  # labels that do not fit are found here
            check_some_valid(dataset, split)
        self.loaders: dict[str, Loader] = {
            "train": build_train_loader(cfg, self.data, self.iter, self.max_iters),
            "val": build_eval_loader(cfg, validation),
        }
        check_banks(self.model, len(self.data))
        check_memory(cfg, self.model, self.loaders["train"])
        check_optimizers(cfg, self.model, self.state)
        self.metrics = build_metrics(cfg.metrics, validation.num_classes, cfg.engine.best)
        self.hooks = Hooks([*build_hooks(cfg.hooks), *display_hooks(cfg), *hooks])
        self.interval = cfg.schedule.val_interval or self.max_iters
        self.log_interval, self.chosen_by = cfg.engine.log_interval, cfg.engine.best
        self.bests: dict[str, Any] = dict(self.state["best"]) if self.state else {}
        self.history: list[dict[str, Any]] = validations(folder, self.iter) if self.state else []
        self.average: Average | None = None
        self.stop_training, self.state_due = False, False
        self.finite, self.means = FiniteLoss(), Means()
        self.watch = GradientWatch(self.write, cfg.engine.gradient_interval)
        self.logger = logger(self.write, lambda: self.iter)

    def open_folder(self) -> AbstractContextManager[None]:
        """The run folder, made and cleaned up by one process."""
        return run_folder(self.folder, self.resume) if processes.is_main() else nullcontext()

    def run_first_stages(self, report: Report | None) -> None:
        """Keep the config, then run the trainings that come before the main one."""
        if processes.is_main():
            dump_config(self.given, self.folder / "config.py")
            if self.resume:
                trim_log(self.folder, self.iter)
            elif advice := missing_classes(self.data):
                self.write({"step": 0, "warning": advice})
                warnings.warn(advice, TermWarning, stacklevel=2)
        self.hooks.call("before_first_stages", self)
        done = self.state is not None
        run_first_stages(self.cfg, self.folder, self.model, self.data, report, self.resume, done)

    def make_ready(self) -> None:
        """Put the model on its device, make its optimisers, and take up what a resumed run has kept."""
        self.precision = Precision(self.cfg.engine.precision, training_device().type)
        self.model.to(training_device())
        self.minimizers = build_minimizers(self.cfg, self.model)
        self.optimizers: dict[str, Optimizer] = {name: own.optimizer for name, own in self.minimizers.items()}
        self.rates = [Rates(one, self.cfg.schedule, self.max_iters) for one in self.optimizers.values()]
        if self.state is not None:
            load_state(self.state, self.model, self.minimizers, self.precision)
            for rates in self.rates:
                rates.go_to(self.iter)
        for minimizer in self.minimizers.values():
            minimizer.precision = self.precision
            minimizer.begin(self.iter, self.max_iters)
        if self.cfg.engine.channels_last:
            to_channels_last(self.model)
        if self.cfg.engine.shard_teacher and isinstance(self.model, Distiller):
            for teacher in self.model.teachers.values():
                processes.shard(teacher)
        if self.cfg.engine.ema:
            self.average = Average(self.model.student, self.cfg.engine.ema)
            if self.state is not None and self.state["average"] is not None:
                self.average.load_state_dict(self.state["average"])
        self.model.compiled = self.cfg.engine.compile
        self.parallel = processes.parallel_training(self.model, self.max_iters)

    def run_steps(self) -> None:
        """Take the steps that are left."""
        self.began = time.perf_counter()
        self.hooks.call("before_run", self)
        self.hooks.call("before_train", self)
        self.hooks.call("before_train_epoch", self)
        self.means.start()
        if self.state is not None:
            self.catch_up()
        losses = self.parallel or self.model
        take_steps(
            Stretch(
                self.model, lambda batch: losses(**batch), self.minimizers, self.precision, self.loaders["train"],
                self.iter, self.seed, self.before_step, self.after_step, self.parallel,
            )
        )  # fmt: skip
        self.hooks.call("after_train_epoch", self)

    def catch_up(self) -> None:
        """Do what a run that was stopped had yet to do after its state was saved."""
        self.keep_best()
        if not self.history and (self.iter % self.interval == 0 or self.iter == self.max_iters):
            self.validate()

    def before_step(self, step: int, batch: Batch) -> None:
        """What precedes a step."""
        self.rate = float(self.optimizers[STUDENT].param_groups[0]["lr"])
        self.watch.before(self.model, step)
        self.hooks.call("before_train_iter", self, batch_idx=step, data_batch=batch)

    def after_step(self, step: int, batch: Batch, values: Values) -> bool:
        """What follows a step: rates, log, hooks, state, validation; whether it was the last."""
        done, stepped = step + 1, self.minimizers[STUDENT].stepped()
        self.finite.add(values, done)
        if stepped:
            self.model.after_step()
            if self.average:
                self.average.update(self.model.student)
        for rates in self.rates:
            rates.step()
        self.watch.after(self.model, step, values)
        self.means.add(values)
        if done % self.log_interval == 0 or done == self.max_iters:
            self.write({"step": done, "lr": self.rate, **self.means.take()})
        self.hooks.call("after_train_iter", self, batch_idx=step, data_batch=batch, outputs=values)
        self.iter = done
        last = done == self.max_iters or self.stop_training
        self.state_due |= done % self.interval == 0 or last
        self.save_due_state()
        if done % self.interval == 0 or last:
            self.validate()
        return last or self.stop_training

    def validate(self) -> None:
        """Score the student on the validation split, and keep it if it is the best so far."""
        self.hooks.call("before_val", self)
        self.hooks.call("before_val_epoch", self)
        self.finite.check(self.iter)
        processes.share_buffers(self.model)
        if self.average:
            processes.share_buffers(self.average.network)
        self.model.eval()
        record: dict[str, Any] = {"step": self.iter}
        for name, network, _ in self.networks():
            record[name] = score(network, self.loaders["val"], self.metrics, self.after_val_batch)
            found, best = main_score(record[name], self.chosen_by), self.bests.get(name, {}).get(self.chosen_by)
            if best is None or found > best or math.isnan(best):
                self.bests[name] = {self.chosen_by: found, "step": self.iter}
                self.state_due = True  # the state of this step was saved before its validation
        self.history.append(record)
        self.save_due_state()
        self.keep_best()
        self.write(record)  # last: what is in the log is in the state
        self.hooks.call("after_val_epoch", self, metrics=record["val"])
        self.hooks.call("after_val", self)
        self.means.restart_clock()

    def networks(self) -> Iterator[tuple[str, Network, str]]:
        """What is scored: its name in the log, and the file of its best weights."""
        yield "val", self.model.student, BEST
        if self.average:
            yield "val_ema", self.average.network, EMA

    def keep_best(self) -> None:
        """Keep the weights of this step that are the best so far."""
        for name, network, file in self.networks():
            if self.bests.get(name, {}).get("step") == self.iter:
                self.save_student(network, file)

    def after_val_batch(self, number: int, batch: Batch, prediction: Tensor) -> None:
        """Tell the hooks of a batch that was scored."""
        self.hooks.call("after_val_iter", self, batch_idx=number, data_batch=batch, outputs=prediction)

    def save_student(self, network: Network, name: str) -> None:
        """Keep weights of the student."""
        self.finite.check(self.iter)
        if processes.is_main():
            save_student(network, self.folder / name)

    def save_due_state(self) -> None:
        """Keep the state if it is time, before weights: on a full disk there is one beside them."""
        if self.state_due and self.minimizers[STUDENT].stepped():  # what has accumulated is in no state
            self.save_state()

    def save_state(self) -> None:
        """Keep all that resuming needs, in types that ``weights_only=True`` loads."""
        self.state_due = False
        self.finite.check(self.iter)
        if processes.is_main():
            optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
            content = {"step": self.iter, "seed": self.seed, "model": self.model.state_dict(), "best": self.bests}
            content |= {"optimizers": optimizers, "scaler": self.precision.state_dict()}
            content["average"] = self.average.state_dict() if self.average else None
            save_atomically(content, self.folder / STATE)

    def finish(self) -> dict[str, Any]:
        """Keep the last state and weights, and say what happened in ``metrics.json``."""
        if self.state_due:
            self.save_state()
        self.save_student(self.model.student, LAST)
        self.hooks.call("after_train", self)
        self.hooks.call("after_run", self)
        metrics = {
            "steps": self.iter,
            "steps_planned": self.max_iters,
            "val_last": self.history[-1]["val"] if self.history else None,
            "val_best": self.best or None,
            **({"ema_best": self.bests.get("val_ema"), "student_ema": EMA} if self.average else {}),
            "student_last": LAST,
            "student_best": BEST,
            "seconds_of_this_sitting": round(time.perf_counter() - self.began, 1),
            "processes": processes.world_size(),
            **self.environment,
        }
        if processes.is_main():
            write_json(self.folder / "metrics.json", metrics)
        return metrics

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line to the log."""
        if processes.is_main():
            append(self.folder / LOG, record)
            self.hooks.call("after_log", self, record=record)

    @property
    def best(self) -> dict[str, Any]:
        """The student's best score so far with its step; empty before the first validation."""
        found: dict[str, Any] = self.bests.get("val", {})
        return found
