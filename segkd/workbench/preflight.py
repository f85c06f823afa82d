"""A training looked at before its first step: is the teacher one, do all parts fit, what will it take."""

from __future__ import annotations

import gc
import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segkd.datasets import SegmentationDataset
from segkd.distiller import Distiller, build_teacher
from segkd.errors import UserError
from segkd.models import Network
from segkd.registry import description
from segkd.segmentor import TrainingModel
from segkd.training import processes
from segkd.training.build import answers_of, build_dataset
from segkd.training.config import Config
from segkd.training.configfile import textual
from segkd.training.loop import Training
from segkd.training.precision import PRECISIONS
from segkd.workbench import Progress, Row, silent
from segkd.workbench.findings import ERROR, WARNING, Finding
from segkd.workbench.making import for_training, fresh
from segkd.workbench.records import Record, record_of, same_dataset
from segkd.workbench.step_check import FirstSteps, try_steps
from segkd.workbench.teacher_check import SECONDS, Teacher, check_names, check_teacher

IMAGES = 8


@dataclass(eq=False, repr=False)
class Preflight:
    """What a preflight has found; ``print`` shows it.

    Attributes:
        findings: one for each thing that was checked, errors among them.
        teachers: a row for each teacher: ``name``, ``miou``, ``pixel_accuracy`` (percent), ``kappa``, ``images``,
            ``recorded_miou``.
        terms: a row for each term: ``name``, ``value``, ``gradient``, ``shared_gradient``, ``pull`` (by the labels').
        layer: path of the layer at which pulls are compared.
        step: seconds, memory and disk, see ``segkd.workbench.step_check.FirstSteps``; empty if no step was tried.
        seconds: that the preflight itself took.
    """

    findings: list[Finding] = field(default_factory=list)
    teachers: list[Row] = field(default_factory=list)
    terms: list[Row] = field(default_factory=list)
    layer: str | None = None
    step: Row = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def errors(self) -> list[Finding]:
        """The findings for which the run would be wasted."""
        return [one for one in self.findings if one.level == ERROR]

    @property
    def warnings(self) -> list[Finding]:
        """The findings to think about."""
        return [one for one in self.findings if one.level == WARNING]

    @property
    def ok(self) -> bool:
        """True if nothing speaks against the run."""
        return not self.errors

    def reason(self) -> str:
        """The first error, and how many more there are; "" if there is none."""
        if not self.errors:
            return ""
        more = f" (and {len(self.errors) - 1} more: see `segkd check`)" if len(self.errors) > 1 else ""
        return f"{self.errors[0]}{more}"

    def summary(self) -> str:
        """The gist, in a line."""
        parts = [f"{row['name']} {row['miou']:.1f} mIoU on {row['images']} images" for row in self.teachers]
        parts += [f"{len(self.terms)} term{'s' * (len(self.terms) > 1)}"] if self.terms else []
        if self.step:
            step = self.step
            parts.append(f"{step['seconds_per_step']:.2g} s a step, {duration(step['seconds_in_all'])} in all")
            parts.append(f"{step['peak_memory_mib'] / 1024:.1f} GiB of memory")
            parts.append(f"{step['disk_bytes'] / 2**20:,.0f} MiB of {step['free_bytes'] / 2**30:,.0f} GiB of disk")
        return f"preflight ({self.seconds:.0f} s): " + (", ".join(parts) or "nothing measured")

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        return asdict(self) | {"ok": self.ok}

    def __repr__(self) -> str:
        return "\n".join([self.summary(), *(f"{one.level}: {one}" for one in self.findings)])


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def preflight(
    cfg: Mapping[str, Any] | Config,
    images: int = IMAGES,
    folder: Path | None = None,
    seconds: float = SECONDS,
    progress: Progress = silent,
) -> Preflight:
    """Look at a training without beginning it: teachers scored, terms tried on a batch, time, memory and disk measured.

    It builds the run's parts for itself; files, the random state and the objects in the config stay as they are, so a
    training afterwards is the same, bit by bit. What first stages would train is tried as it begins, and nothing is
    compiled. In one process only.

    Args:
        cfg: from ``segkd.training.configfile.load_config``, or any complete config.
        images: validation images that each teacher is scored on, fewer if they take longer than ``seconds``.
        folder: where the run will lie; one that already holds a run is refused. None: it is not known.
        seconds: for scoring a teacher, and again for trying why it does badly.
        progress: told what is being done.

    Raises:
        UserError: what a training would refuse before its first step: wrong config, data or weights.
    """
    if processes.is_distributed():
        raise UserError("a preflight runs in one process; start it without torchrun, or skip it")
    began = time.perf_counter()
    given = cfg.to_dict() if isinstance(cfg, Config) else cfg
    with unchanged():
        found = _Check(_own(given), images, folder, seconds, progress).run()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    found.seconds = time.perf_counter() - began
    return found


class _Check:
    """One preflight: its inputs, and what it does in turn."""

    def __init__(
        self, cfg: dict[str, Any], images: int, folder: Path | None, seconds: float, progress: Progress
    ) -> None:
        self.cfg, self.images, self.seconds, self.progress = cfg, images, seconds, progress
        self.place, self.workers = folder or Path(), Config.of(cfg).data.workers
        nowhere = Path(tempfile.gettempdir(), f"segkd-preflight-{os.getpid()}")  # never made
        self.folder = folder or nowhere
        self.found = Preflight()

    def run(self) -> Preflight:
        """The teachers first: without them, the rest is worth nothing."""
        self.progress("building", 0, None)
        try:
            training = Training(_alone(self.cfg), self.folder, False, (), None)
        except UserError as error:
            self._why_not(error)
            return self.found
        training.model.to(training.device)
        dataset: Any = training.loaders["val"].dataset
        self._teachers(training.model, dataset.dataset, partial(_autocast, training))
        self.progress("trying the first steps", 0, None)
        steps: FirstSteps = try_steps(training, self.place, self.workers)
        self.found.terms, self.found.layer, self.found.step = steps.terms, steps.layer, steps.step
        self.found.findings += steps.findings
        return self.found

    def _why_not(self, error: UserError) -> None:
        """A model that can't be built, because of its teacher: that is then named. Else, the error."""
        model = self.cfg["model"]
        single, several = model.get("teacher"), model.get("teachers") or {}
        named = {f"model.teachers.{name}": one for name, one in several.items()} | (
            {"model.teacher": single} if single is not None else {}
        )
        if not named or model.get("untrained_teacher"):
            raise error
        try:
            networks = {key: build_teacher(one, key=key) for key, one in named.items()}
            dataset = build_dataset(self.cfg, "val")
        except UserError:
            raise error from None
        for key, network in networks.items():
            if network.num_classes != dataset.num_classes:
                self._judge(Teacher(key, network, self._record(key, network), True), dataset, nullcontext)
        if self.found.ok:
            raise error

    def _teachers(self, model: TrainingModel, dataset: SegmentationDataset, autocast: Any) -> None:
        if not isinstance(model, Distiller):
            return
        if self.cfg["model"].get("untrained_teacher"):
            self.found.findings.append(Finding(WARNING, "the teacher is untrained, as the config wants it: not scored"))
            return
        if answers_of(self.cfg["model"]) is not None:  # they are to the training's images
            return
        for name, network in model.teachers.items():
            key = f"model.teachers.{name}" if self.cfg["model"].get("teachers") else "model.teacher"
            compared = any(_compares_logits(bind, network) for bind in model.terms().values())
            self._judge(Teacher(key, network, self._record(key, network), compared), dataset, autocast)

    def _judge(self, teacher: Teacher, dataset: SegmentationDataset, autocast: Any) -> None:
        self.progress(f"scoring the {teacher.name}", 0, None)
        self.found.findings += check_names(teacher, dataset.class_names)
        row, findings = check_teacher(teacher, dataset, self.images, self.seconds, autocast)
        self.found.teachers.append(row)
        self.found.findings += findings

    def _record(self, key: str, network: Network) -> Record:
        """What lies beside a teacher's weights; no score if that is of another data set."""
        model = self.cfg["model"]
        given = model["teacher"] if key == "model.teacher" else model["teachers"][key.rpartition(".")[2]]
        made_of = given if isinstance(given, Mapping) else description(network) or {}
        record = record_of(made_of.get("weights"))
        ours = textual(self.cfg["data"]).get("dataset", {}).get("type")
        return record if same_dataset(ours, record.dataset) else record._replace(miou=None)


def _compares_logits(bind: Any, network: Network) -> bool:
    return any(meeting.teacher_raw[1] == network.num_classes for meeting in bind.shapes)


def _autocast(training: Training) -> AbstractContextManager[Any]:
    """The precision in which a training's teachers compute."""
    own = training.model.teacher_dtype if isinstance(training.model, Distiller) else None
    dtype = own or PRECISIONS[training.cfg.engine.precision]
    return torch.autocast(training.device.type, dtype=dtype, enabled=dtype != torch.float32)


def _own(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The config with copies of what a training would change."""
    found = for_training(cfg)
    if "binds" in found["model"]:
        found["model"]["binds"] = fresh(found["model"]["binds"])
    return found


def _alone(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The config without what acts outside of it: hooks, loggers, loading processes, compilers."""
    engine = {**cfg.get("engine", {}), "compile": False, "logger": None}
    return {**cfg, "engine": engine, "data": {**cfg["data"], "workers": 0}, "hooks": ()}


@contextmanager
def unchanged() -> Iterator[None]:
    """A context after which Python's, numpy's and torch's random states and torch's threads are as before."""
    python, arrays, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_num_threads(threads)
