"""One training run: config -> run folder with config, log, state, student weights and metrics.json."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from segkd.datasets.loading import Loader
from segkd.engine.build import build_dataset, build_eval_loader, build_model, build_train_loader, check_classes
from segkd.engine.checkpoint import BEST, LAST, STATE, bare, read_state, run_folder
from segkd.engine.config import dump_config, first_line
from segkd.engine.environment import environment
from segkd.engine.hooks import ChannelsLastHook, FiniteLossHook, RunFilesHook, StepSeedHook
from segkd.engine.loop import StepLoop
from segkd.engine.precision import AutocastOptimWrapper
from segkd.engine.runner import SegRunner
from segkd.errors import UserError, nearest
from segkd.evaluation.miou import MeanIoU
from segkd.registry import build, resolve
from segkd.report.tables import write_json

State = Mapping[str, Any]


def train(
    cfg: Mapping[str, Any],
    run: Path,
    *,
    resume: bool = False,
    hooks: Sequence[Hook] = (),
    model: nn.Module | None = None,
) -> dict[str, Any]:
    """Train one config in the folder ``run``; returns what is written to its ``metrics.json``.

    Args:
        cfg: from ``segkd.engine.config.load_config``.
        run: the run folder; must be new unless ``resume``.
        resume: go on from the folder's last state.
        hooks: further hooks (progress).
        model: a built training model, else it is built from the config.

    Raises:
        UserError: wrong config, data or weights; a folder that already holds a run; nothing to resume.
    """
    _check_processes()
    set_threads(cfg)
    state = _check_folder(run, cfg, resume)
    model = model if model is not None else build_model(cfg)
    training, validation = build_dataset(cfg, "train"), build_dataset(cfg, "val")
    for dataset in (training, validation):
        check_classes(model, dataset)  # type: ignore[arg-type]
        dataset[0]  # labels that do not fit are found here, before there is a run folder
    train_loader = build_train_loader(cfg, training, state["step"] if state else 0)
    val_loader = build_eval_loader(cfg, validation)
    with run_folder(run, resume), closing(train_loader), closing(val_loader):
        dump_config(cfg, run / "config.py")
        runner, files = _runner(cfg, run, model, train_loader, val_loader, state)
        for hook in (StepSeedHook(), FiniteLossHook(), files, *_precision_hooks(cfg), *hooks):
            runner.register_hook(hook)
        for hook in cfg.get("hooks", ()):
            runner.register_hook(build(hook, "hook"))
        began = time.perf_counter()
        runner.train()
        return _finish(cfg, run, files, time.perf_counter() - began)


def _check_processes() -> None:
    """Started by torchrun, each process would train the whole run, and all would write the same files."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise UserError(f"this version trains in one process, not in {count} (WORLD_SIZE): start it with one")


def set_threads(cfg: Mapping[str, Any]) -> None:
    """``engine.threads``, if given, for torch on the CPU."""
    threads = cfg.get("engine", {}).get("threads")
    if threads:
        torch.set_num_threads(int(threads))


def _check_folder(run: Path, cfg: Mapping[str, Any], resume: bool) -> State | None:
    if not resume:
        if (run / STATE).exists() or (run / LAST).exists():
            raise UserError(f"{run} already holds a run: add --resume to go on with it, or choose another --out")
        return None
    state = read_state(run)
    if state["step"] >= int(cfg["schedule"]["steps"]):
        raise UserError(f"{run} has already trained {state['step']} steps; raise schedule.steps to train on")
    if state["seed"] != int(cfg.get("seed", 0)):
        raise UserError(f"{run} was trained with seed {state['seed']}, not {cfg.get('seed', 0)}")
    return state


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
        optim_wrapper=_optim_wrapper(cfg, model),
        param_scheduler=_schedulers(schedule, steps),
        default_hooks=dict(logger=None, checkpoint=None, sampler_seed=None, timer=None),
        randomness=dict(seed=int(cfg.get("seed", 0))),
        log_level="WARNING",
        experiment_name=f"segkd_{time.time_ns()}",
    )
    best = state["best"] if state else None
    return runner, RunFilesHook(run, interval, log_interval, best)


def _optim_wrapper(cfg: Mapping[str, Any], model: nn.Module) -> Any:
    optim = cfg["optim"]
    _check_optimizer(optim["optimizer"])
    if not isinstance(optim.get("clip_grad") or {}, Mapping):
        raise UserError(f"optim.clip_grad must be dict(max_norm=...), got {optim['clip_grad']!r}")
    wrapper = dict(
        type=AutocastOptimWrapper,
        precision=cfg.get("engine", {}).get("precision", "fp32"),
        optimizer=dict(optim["optimizer"]),
        accumulative_counts=int(optim.get("accumulate", 1)),
        clip_grad=optim.get("clip_grad") or None,
        paramwise_cfg=optim.get("paramwise"),
    )
    try:
        return build_optim_wrapper(model, wrapper)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"optim does not fit: {first_line(error)}") from error


def _check_optimizer(optimizer: Any) -> None:
    """A class, its dotted path, or one of mmengine's names (torch's optimisers)."""
    kind = optimizer.get("type") if isinstance(optimizer, Mapping) else None
    if kind is None:
        raise UserError(f"optim.optimizer must be dict(type=..., lr=...), got {optimizer!r}")
    if isinstance(kind, str) and "." in kind:
        resolve(kind, "optimiser")
    elif isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
        raise UserError(f"unknown optimiser {kind!r}; {nearest(kind, OPTIMIZERS.module_dict)}")


def _schedulers(schedule: Mapping[str, Any], steps: int) -> list[dict[str, Any]]:
    """Polynomial decay over all steps, after a linear warm-up."""
    warmup = min(int(schedule.get("warmup", 0)), max(steps - 1, 0))
    found: list[dict[str, Any]] = []
    if warmup:
        found.append(dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warmup))
    found.append(
        dict(
            type="PolyLR",
            power=float(schedule.get("power", 0.9)),
            eta_min=float(schedule.get("min_lr", 0.0)),
            by_epoch=False,
            begin=warmup,
            end=steps,
        )
    )
    return found


def _precision_hooks(cfg: Mapping[str, Any]) -> list[Hook]:
    return [ChannelsLastHook()] if cfg.get("engine", {}).get("channels_last") else []


def _finish(cfg: Mapping[str, Any], run: Path, files: RunFilesHook, seconds: float) -> dict[str, Any]:
    metrics = {
        "steps": int(cfg["schedule"]["steps"]),
        "val_last": files.history[-1]["val"] if files.history else None,
        "val_best": files.best or None,
        "student_last": LAST,
        "student_best": BEST,
        "seconds_of_this_sitting": round(seconds, 1),
        **environment(int(cfg.get("seed", 0))),
    }
    write_json(run / "metrics.json", metrics)
    return metrics
