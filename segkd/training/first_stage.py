"""Trainings before the main one: a loss's parts that learn from the teacher alone, or the student's start."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segkd.arguments import integer
from segkd.datasets import SegmentationDataset
from segkd.distiller import Distiller
from segkd.errors import UserError, nearest
from segkd.segmentor import TrainingModel
from segkd.training import processes
from segkd.training.build import build_train_loader
from segkd.training.config import Config
from segkd.training.configfile import textual
from segkd.training.log import FIRST_STAGES, LOG, append
from segkd.training.optim import STUDENT, Minimizer, build_minimizer, clip_grad, optimizer_class
from segkd.training.precision import training_device
from segkd.training.state import read_file, save_atomically
from segkd.training.steps import Batch, Stretch, Values, take_steps
from segkd.training.watch import TermWarning

Report = Callable[[Mapping[str, Any]], None]


def file_of(run: Path, name: str) -> Path:
    """The file that holds the result of a bind's first stage."""
    return run / FIRST_STAGES.replace("*", name)


def stages(model: nn.Module) -> dict[str, Mapping[str, Any]]:
    """The first stages that a model's binds ask for, in their order."""
    binds = model.terms() if isinstance(model, Distiller) else {}
    return {name: bind.first_stage for name, bind in binds.items() if bind.first_stage is not None}


def check_first_stages(model: TrainingModel) -> None:
    """A UserError, before anything is trained, for a first stage that cannot run."""
    for name, stage in stages(model).items():
        steps, bind = stage.get("steps"), model.terms()[name]
        for key in sorted(set(stage) - {"steps", "optimizer"}):
            known = nearest(key, ("steps", "optimizer"))
            raise UserError(f"bind {name!r}: first_stage.{key} means nothing; {known}")
        # the student may go without; parts that learn from the teacher alone would stay untrained for good
        integer(steps, "first_stage.steps", f"bind {name!r}", least=1 if bind.first_learner() else 0)
        if steps and "optimizer" not in stage:
            raise UserError(f"bind {name!r}: first_stage needs optimizer=dict(type=..., lr=...)")
        if bind.critic_parameters():
            raise UserError(
                f"bind {name!r}: {type(bind.loss).__name__} has a critic, which a first stage does not train; leave "
                "first_stage out"
            )


def check_kept(cfg: Config, run: Path, model: TrainingModel) -> None:
    """A UserError unless the results of first stages that the run folder holds are this config's."""
    if not isinstance(model, Distiller):
        return
    for name in stages(model):
        _kept(run, model, name, _made_with(cfg, model, name))


def _kept(run: Path, model: Distiller, name: str, made: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The result of a bind's first stage that the run folder holds, of one that was ``made`` with the same."""
    path = file_of(run, name)
    if not path.is_file():
        return None
    content = read_file(path)
    found = content.get("made_with", {})
    cure = "set it back, or start without --resume to train the first stage anew"
    for key, value in made.items():
        if found.get(key) != value:
            raise UserError(f"{path} was trained with {key} {found.get(key)}, not {value}; {cure}")
    state: dict[str, Tensor] = content["state"]
    own = _learners(model, name).state_dict()
    differing = sorted(set(own) ^ set(state)) or sorted(k for k in own if own[k].shape != state[k].shape)
    if differing:
        raise UserError(f"{path} holds another loss or student than the config's: {differing[0]!r} differs; {cure}")
    return state


def _made_with(cfg: Config, model: Distiller, name: str) -> dict[str, Any]:
    """What the result of a first stage depends on, as plain values; asked for before any stage has run."""
    stage, bind = stages(model)[name], model.terms()[name]
    optimizer = dict(stage.get("optimizer") or {})
    if optimizer:
        optimizer["type"] = optimizer_class(optimizer, _key(name))
    own, data = cfg.model["binds"][name], cfg.data
    loss = {key: value for key, value in own["loss"].items() if key != "type"}
    made = {
        "seed": cfg.seed,
        "steps": stage["steps"],
        "optimizer": _text(optimizer),
        "lr_factor": bind.lr_factor,
        "teacher_scale": bind.teacher_scale,
        "clip_grad": repr(dict(clip_grad(cfg) or {})),
        "student": repr(bind.student_paths),
        "teacher": repr(bind.teacher_paths),
        "loss": f"{type(bind.loss).__name__} {_text(loss)}",
        "connector": repr(textual(own.get("connector"))),
        "size": bind.size,
        "masked": bind.masked,
        "of": bind.of,
        "data": _text({key: getattr(data, key) for key in ("batch_size", "augment", "train")}),
        "teacher weights of checksum": " ".join(map(_checksum, model.teachers.values())),
    }
    if bind.first_learner() is None:  # the student learns, from its own start
        made["student weights of checksum"] = _checksum(model.student)
    return made


def _text(values: Mapping[str, Any]) -> str:
    return repr(dict(sorted(textual(dict(values)).items())))


def _checksum(network: nn.Module) -> str:
    """Checksum of a network's weights, wherever they were read from."""
    found = 0
    for value in network.state_dict().values():
        found = zlib.crc32(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes(), found)
    return f"{found:08x}"


def _learners(model: TrainingModel, name: str) -> nn.ModuleDict:
    """What the first stage of a bind may change."""
    bind = model.terms()[name]
    alone = bind.first_learner() is not None
    return nn.ModuleDict({"bind": bind} if alone else {"bind": bind, "student": model.student})


def run_first_stages(
    cfg: Config,
    run: Path,
    model: TrainingModel,
    dataset: SegmentationDataset,
    report: Report | None = None,
    resume: bool = False,
    done: bool = False,
) -> None:
    """Train each first stage, unless a resumed run's folder holds its result, which is loaded; freeze what has learnt.

    Args:
        cfg: the run's config; precision, batch size and seed are those of the main training.
        run: the run folder; a result is kept there as ``first_stage_NAME.pth``.
        model: the training model; moved to the device.
        dataset: the training split.
        report: takes {"first_stage": name, "step": ..., "steps": ..., "loss": ...} at every log interval.
        resume: the run was stopped before: what it kept is used.
        done: the main training has begun before, and its state holds all results: nothing is trained or loaded.
    """
    if not isinstance(model, Distiller):
        return
    made = {} if done else {name: _made_with(cfg, model, name) for name in stages(model)}
    for name, stage in stages(model).items():
        own = _learners(model, name)
        result = _kept(run, model, name, made[name]) if resume and not done else None
        if result is not None:
            own.load_state_dict(result)
        elif not done and stage["steps"]:
            model.to(training_device(cfg.engine.device))
            _train(cfg, run, name, model, dataset, report)
            processes.share_buffers(own)
            if processes.is_main():
                state = {key: value.cpu() for key, value in own.state_dict().items()}
                save_atomically({"made_with": made[name], "state": state}, file_of(run, name))
        if model.terms()[name].first_learner() is not None:
            for parameter in model.first_stage_parameters(name):
                parameter.requires_grad_(False)


def build_stage_minimizer(cfg: Config, model: Distiller, name: str) -> Minimizer:
    """The optimiser of a bind's first stage, with the bind's factors and the run's clipping."""
    optimizer = stages(model)[name]["optimizer"]
    return build_minimizer(cfg, model.first_stage_groups(name), optimizer, clip_grad(cfg), _key(name))


def _key(name: str) -> str:
    """The place in the config of the optimiser of a bind's first stage."""
    return f"model.binds.{name}.first_stage.optimizer"


def _train(
    cfg: Config, run: Path, name: str, model: Distiller, dataset: SegmentationDataset, report: Report | None
) -> None:
    """Train one; it logs at every log interval, and warns of the teacher's scale after the first step."""
    steps, interval = int(stages(model)[name]["steps"]), cfg.engine.log_interval
    bind, minimizer = model.terms()[name], build_stage_minimizer(cfg, model, name)
    minimizer.begin(0, steps)

    def losses(batch: Batch) -> Values:
        return {name: model.first_stage_loss(name, step=model.step, **batch)}

    def after(step: int, batch: Batch, values: Values) -> None:
        value = float(processes.mean(values["loss"]))
        if not math.isfinite(value):
            raise UserError(f"first stage of {name!r}, step {step + 1}: the loss is not finite; lower its lr")
        if step == 0 and processes.is_main() and (advice := bind.scale_advice()):
            append(run / LOG, {"first_stage": name, "step": 1, "warning": advice})
            warnings.warn(f"first stage of {name}: {advice}", TermWarning, stacklevel=2)
        if minimizer.stepped():
            bind.loss.after_step()
        if ((step + 1) % interval == 0 or step + 1 == steps) and processes.is_main():
            record = {"first_stage": name, "step": step + 1, "steps": steps, "loss": value}
            append(run / LOG, record)
            if report:
                report(record)

    batches, seed = build_train_loader(cfg, dataset, 0, steps), cfg.seed
    with closing(batches), processes.averaged_gradients(model.first_stage_parameters(name)):
        minimizers, precision = {STUDENT: minimizer}, minimizer.precision
        take_steps(Stretch(model, losses, minimizers, precision, batches, 0, seed, lambda *_: None, after))
