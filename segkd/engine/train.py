"""One training run: config -> run folder with config, log, state, student weights and metrics.json."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from segkd.datasets.loading import Loader
from segkd.distiller import Distiller
from segkd.engine import distributed
from segkd.engine.build import build_dataset, build_eval_loader, build_model, build_train_loader, check_classes
from segkd.engine.checkpoint import BEST, LAST, STATE, bare, check_state, read_state, run_folder, trim_log
from segkd.engine.config import dump_config
from segkd.engine.environment import environment
from segkd.engine.first_stage import (
    Report,
    build_stage_wrapper,
    check_first_stages,
    check_kept,
    run_first_stages,
    stages,
)
from segkd.engine.hooks import (
    AfterStepHook,
    ChannelsLastHook,
    FiniteLossHook,
    GradientWatchHook,
    ParallelHook,
    RunFilesHook,
    StepSeedHook,
)
from segkd.engine.loop import StepLoop
from segkd.engine.optimizers import build_optimizers
from segkd.engine.policies import schedulers
from segkd.engine.runner import SegRunner
from segkd.errors import UserError
from segkd.evaluation.miou import MeanIoU
from segkd.registry import build
from segkd.report.tables import write_json
from segkd.segmentor import TrainingModel

State = Mapping[str, Any]


def train(
    cfg: Mapping[str, Any],
    run: Path,
    *,
    resume: bool = False,
    hooks: Sequence[Hook] = (),
    model: nn.Module | None = None,
    on_first_stage: Report | None = None,
) -> dict[str, Any]:
    """Train one config in the folder ``run``; returns what is written to its ``metrics.json``.

    Started by torchrun, the processes share every batch, and the first one writes the files.

    Args:
        cfg: from ``segkd.engine.config.load_config``.
        run: the run folder; must be new unless ``resume``.
        resume: go on from the folder's last state.
        hooks: further hooks (progress).
        model: a built training model, else it is built from the config.
        on_first_stage: takes {"first_stage": name, "step": ..., "steps": ..., "loss": ...} as first stages advance.

    Raises:
        UserError: wrong config, data or weights; a folder that already holds a run; nothing to resume.
    """
    with distributed.together():
        return _train(cfg, run, resume, hooks, model, on_first_stage)


def _train(
    cfg: Mapping[str, Any],
    run: Path,
    resume: bool,
    hooks: Sequence[Hook],
    model: nn.Module | None,
    on_first_stage: Report | None,
) -> dict[str, Any]:
    set_threads(cfg)
    model = model if model is not None else build_model(cfg)
    check_first_stages(bare(model))
    state = _check_folder(run, cfg, resume, bare(model))
    training, validation = build_dataset(cfg, "train"), build_dataset(cfg, "val")
    for dataset in (training, validation):
        check_classes(model, dataset)  # type: ignore[arg-type]
        dataset[0]  # labels that do not fit are found here, before there is a run folder
    train_loader = build_train_loader(cfg, training, state["step"] if state else 0)
    val_loader = build_eval_loader(cfg, validation)
    _check_banks(bare(model), len(training))
    _rehearse(cfg, bare(model), state)
    own_hooks = [_hook(hook) for hook in _listed(cfg.get("hooks", ()))]
    with _folder(run, resume), closing(train_loader), closing(val_loader), warnings.catch_warnings():
        # mmengine's schedulers count steps, also those that only accumulate gradients
        warnings.filterwarnings("ignore", message=r"Detected call of `(lr_)?scheduler.step\(\)`")
        if distributed.is_main():
            dump_config(cfg, run / "config.py")
            if resume:
                trim_log(run, state["step"] if state else 0)
        run_first_stages(cfg, run, bare(model), training, on_first_stage, resume, done=state is not None)
        runner, files = _runner(cfg, run, model, train_loader, val_loader, state)
        for hook in (StepSeedHook(), files.finite, AfterStepHook(), files, *_engine_hooks(cfg), *hooks):
            runner.register_hook(hook)
        interval = int(cfg.get("engine", {}).get("gradient_interval", 200))
        if interval:
            runner.register_hook(GradientWatchHook(files.write, interval))
        for hook in own_hooks:
            runner.register_hook(hook)
        began = time.perf_counter()
        runner.train()
        return _finish(cfg, run, files, time.perf_counter() - began)


def _folder(run: Path, resume: bool) -> AbstractContextManager[None]:
    """The run folder, made and cleaned up by one process."""
    return run_folder(run, resume) if distributed.is_main() else nullcontext()


def set_threads(cfg: Mapping[str, Any]) -> None:
    """``engine.threads``, if given, for torch on the CPU."""
    threads = cfg.get("engine", {}).get("threads")
    if threads:
        torch.set_num_threads(int(threads))


def _check_folder(run: Path, cfg: Mapping[str, Any], resume: bool, model: TrainingModel) -> State | None:
    if not resume:
        if (run / STATE).exists() or (run / LAST).exists():
            raise UserError(f"{run} already holds a run: add --resume to go on with it, or choose another --out")
        return None
    if not (run / STATE).exists():
        check_kept(cfg, run, model)
        if (run / "config.py").is_file() and stages(model):
            return None  # it was stopped in a first stage, or between these and the first state
    state = read_state(run)
    if state["step"] >= int(cfg["schedule"]["steps"]):
        raise UserError(f"{run} has already trained {state['step']} steps; raise schedule.steps to train on")
    if state["seed"] != int(cfg.get("seed", 0)):
        raise UserError(f"{run} was trained with seed {state['seed']}, not {cfg.get('seed', 0)}")
    return state


def _rehearse(cfg: Mapping[str, Any], model: TrainingModel, state: State | None) -> None:
    """Build the optimisers and schedules of the run, and see that a state fits them: a UserError, before any file."""
    wrapper = build_optimizers(cfg, model)
    own = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    for scheduler in schedulers(cfg["schedule"], int(cfg["schedule"]["steps"])):
        for one in own:
            PARAM_SCHEDULERS.build({**scheduler, "optimizer": one})
    if isinstance(model, Distiller):
        for name, stage in stages(model).items():
            if stage["steps"]:
                build_stage_wrapper(cfg, model, name)
    if state is not None:
        check_state(model, wrapper, state)


def _check_banks(model: TrainingModel, images: int) -> None:
    """A memory with a place for each image needs as many as there are."""
    for name, bind in model.terms().items():
        places = getattr(bind.loss, "n_data", None)
        if places is not None and places < images:
            raise UserError(
                f"bind {name!r}: {type(bind.loss).__name__} has n_data={places}, but the training split holds {images} "
                f"images; set n_data={images}"
            )


def _listed(hooks: Any) -> Sequence[Any]:
    if not isinstance(hooks, list | tuple):
        raise UserError(f"hooks must be a list of dict(type=...), got {hooks!r}")
    return hooks


def _hook(cfg: Any) -> Hook:
    """A hook of the config's."""
    hook = build(cfg, "hook")
    if not isinstance(hook, Hook):
        raise UserError(f"hooks: {cfg!r} is no hook of mmengine's; give dict(type=...)")
    return hook


def _runner(
    cfg: Mapping[str, Any], run: Path, model: nn.Module, training: Loader, validation: Loader, state: State | None
) -> tuple[SegRunner, RunFilesHook]:
    schedule = cfg["schedule"]
    steps = int(schedule["steps"])
    interval = min(int(schedule.get("val_interval", steps)), steps)
    log_interval = int(cfg.get("engine", {}).get("log_interval", 20))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    runner = SegRunner(
        state=state,
        model=model,
        work_dir=str(run / "mmengine"),
        train_dataloader=training,
        train_cfg=dict(type=StepLoop, max_iters=steps, val_interval=interval),
        val_dataloader=validation,
        val_cfg=dict(),
        val_evaluator=[MeanIoU(num_classes=bare(model).student.num_classes)],
        optim_wrapper=build_optimizers(cfg, bare(model)),
        param_scheduler=schedulers(schedule, steps),
        default_hooks=dict(logger=None, checkpoint=None, sampler_seed=None, timer=None),
        randomness=dict(seed=int(cfg.get("seed", 0))),
        log_level="WARNING",
        experiment_name=f"segkd_{time.time_ns()}",
    )
    best = state["best"] if state else None
    return runner, RunFilesHook(run, interval, log_interval, FiniteLossHook(), best)


def _engine_hooks(cfg: Mapping[str, Any]) -> list[Hook]:
    layout: list[Hook] = [ChannelsLastHook()] if cfg.get("engine", {}).get("channels_last") else []
    return [*layout, ParallelHook()] if distributed.joined() else layout


def _finish(cfg: Mapping[str, Any], run: Path, files: RunFilesHook, seconds: float) -> dict[str, Any]:
    metrics = {
        "steps": int(cfg["schedule"]["steps"]),
        "val_last": files.history[-1]["val"] if files.history else None,
        "val_best": files.best or None,
        "student_last": LAST,
        "student_best": BEST,
        "seconds_of_this_sitting": round(seconds, 1),
        "processes": distributed.world_size(),
        **environment(int(cfg.get("seed", 0))),
    }
    if distributed.is_main():
        write_json(run / "metrics.json", metrics)
    return metrics
