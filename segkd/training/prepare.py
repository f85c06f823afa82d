"""All parts of a training, built and checked before there is a file, then made ready for the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from segkd.datasets import SegmentationDataset
from segkd.datasets.loading import Loader
from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.segmentor import TrainingModel
from segkd.training import processes
from segkd.training.average import Average
from segkd.training.aware import make_aware
from segkd.training.bad_files import SkippedFiles
from segkd.training.build import (
    build_dataset,
    build_eval_loader,
    build_model,
    build_train_loader,
    build_transform,
    readable,
)
from segkd.training.checks import check_banks, check_classes, check_folder, check_memory, check_optimizers
from segkd.training.config import Config
from segkd.training.environment import environment
from segkd.training.first_stage import check_first_stages
from segkd.training.hooks import Hooks, MMEngineNames, build_hooks
from segkd.training.labels import check_some_valid
from segkd.training.log import LOG, Means, append, logger, validations
from segkd.training.loggers import display_hooks
from segkd.training.optim import build_minimizers
from segkd.training.precision import (
    Precision,
    set_teacher_precision,
    settle_precision,
    to_channels_last,
    training_device,
)
from segkd.training.rates import Rates
from segkd.training.state import load_state
from segkd.training.validation import build_metrics
from segkd.training.values import CROP
from segkd.training.watch import FiniteLoss, GradientWatch

State = Mapping[str, Any]


class Prepared(MMEngineNames):
    """A run's parts; every hook gets them as its first argument.

    Attributes:
        iter, max_iters: steps done (within a step: before it), and steps of the run.
        model: the training model; ``model.student`` is the network that is trained.
        optimizers: torch's, "student" and, where a loss has one, "critic".
        loaders: "train" and "val".
        logger: what is logged by it goes to the run's log.
        stop_training: set it to True to end the run after the step in progress.
        history: the scores of each validation.
        notes: what was measured before the first step, a line each.
        skipped: files that cannot be used, which were passed over.
        class_scores: the IoU of each class at the last validation, by what was scored ("val", "val_ema").
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
        self.rank, self.world_size = processes.rank(), processes.world_size()
        self.device = training_device(cfg.engine.device)
        cfg = settle_precision(cfg, self.device)
        build_transform(cfg.data.augment)  # a mistake in it is said before networks are built
        self.model = model if model is not None else build_model(cfg)
        set_teacher_precision(self.model, cfg.engine.teacher_precision)
        check_first_stages(self.model)
        self.data: SegmentationDataset = build_dataset(cfg, "train")
        validation = build_dataset(cfg, "val")
        self.cfg = cfg = cfg.with_steps(len(self.data))
        self.state: State | None = check_folder(folder, cfg, resume, self.model)
        self.notes = make_aware(self.model, cfg, readable(cfg, self.data), self.state)
        self.iter, self.max_iters = self.state["step"] if self.state else 0, cfg.schedule.steps or 0
        for split, dataset in (("train", self.data), ("val", validation)):
            check_classes(self.model, dataset)
            looked_at = readable(cfg, dataset) if split == "train" else dataset
            looked_at[0]  # labels that do not fit are found here
            check_some_valid(looked_at, split)
        self.loaders: dict[str, Loader] = {
            "train": build_train_loader(cfg, self.data, self.iter, self.max_iters),
            "val": build_eval_loader(cfg, validation),
        }
        if cfg.data.unlabelled is not None and not self.model.terms():
            raise UserError("data.unlabelled is for a teacher's terms, and the model has no teacher: leave it out")
        if cfg.data.teacher_view != CROP and not self.model.terms():
            raise UserError("data.teacher_view is for a teacher, and the model has none: leave it out")
        check_banks(self.model, len(self.loaders["train"].dataset))  # type: ignore[arg-type]
        check_memory(cfg, self.model, self.loaders["train"])
        check_optimizers(cfg, self.model, self.state)
        self.metrics = build_metrics(cfg.metrics, validation, cfg.engine.best)
        self.views, self.instances_of = cfg.evaluation.views(), getattr(validation, "instances_of", None)
        self.hooks = Hooks([*build_hooks(cfg.hooks), *display_hooks(cfg), *hooks])
        self.interval = cfg.schedule.val_interval or self.max_iters
        self.log_interval, self.chosen_by = cfg.engine.log_interval, cfg.engine.best
        self.bests: dict[str, Any] = dict(self.state["best"]) if self.state else {}
        self.history: list[dict[str, Any]] = validations(folder, self.iter) if self.state else []
        self.class_scores: dict[str, Sequence[float] | None] = {}
        self.average: Average | None = None
        left_out = [] if resume else self.model.student.left_out or []
        self.notes += [f"not in what the student begins with: {line}" for line in left_out]
        self.stop_training, self.state_due = False, False
        self.skipped = SkippedFiles(self.write, self.state.get("skipped", {}) if self.state else {})
        self.finite, self.means = FiniteLoss(), Means()
        self.watch = GradientWatch(self.write, cfg.engine.gradient_interval)
        self.logger = logger(self.write, lambda: self.iter)

    def make_ready(self) -> None:
        """Put the model on its device, make its optimisers, and take up what a resumed run has kept."""
        self.precision = Precision(self.cfg.engine.precision, self.device.type)
        self.model.to(self.device)
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

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line to the log."""
        if processes.is_main():
            append(self.folder / LOG, record)
            self.hooks.call("after_log", self, record=record)
