"""Files of a run: the state to resume from, and student weights as tensors alone. Never half-written."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from segkd.errors import UserError
from segkd.files import replacing
from segkd.segmentor import TrainingModel

STATE = "state.pth"
LAST = "student_last.pth"
BEST = "student_best.pth"
LOG = "log.jsonl"
FIRST_STAGES = "first_stage_*.pth"


@contextmanager
def run_folder(run: Path, resume: bool) -> Iterator[None]:
    """Make the folder ``run``. A new run that ends before its first state leaves nothing there, if by a user's mistake;
    else its log, if there is one.
    """
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    run.mkdir(parents=True, exist_ok=True)
    if not resume:
        for file in (run / LOG, *run.glob(FIRST_STAGES)):  # of a run that ended before its first state
            file.unlink(missing_ok=True)
    try:
        yield
    except BaseException as error:
        worth = (STATE, BEST, LAST) if isinstance(error, UserError) else (LOG, STATE, BEST, LAST)
        if not resume and not any((run / name).exists() for name in worth):
            shutil.rmtree(run / "mmengine", ignore_errors=True)
            for name in ("config.py", LOG):
                (run / name).unlink(missing_ok=True)
            with suppress(OSError):  # raised by the first folder that holds something else
                for folder in made:
                    folder.rmdir()
        raise


def bare(model: nn.Module) -> TrainingModel:
    """The training model, without a distributed wrapper around it."""
    inner = getattr(model, "module", model)
    assert isinstance(inner, TrainingModel)
    return inner


def save_atomically(content: Any, path: Path) -> None:
    """``torch.save`` beside, then rename."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def append(path: Path, record: Mapping[str, Any]) -> None:
    """One more line of JSON in a log; a number that is not finite, which JSON does not know, becomes null."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(_finite(record), allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """The same with None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_student(model: nn.Module, path: Path) -> None:
    """The student's state dict (preprocessing included, nothing else), on the CPU and contiguous."""
    state = bare(model).student.state_dict()
    save_atomically({k: v.detach().cpu().contiguous() for k, v in state.items()}, path)


def save_state(runner: Runner, path: Path, best: Mapping[str, Any]) -> None:
    """All that resuming needs, in types that ``weights_only=True`` loads."""
    save_atomically(
        {
            "step": runner.iter,
            "seed": runner.seed,
            "model": bare(runner.model).state_dict(),
            "optimizer": runner.optim_wrapper.state_dict(),
            "schedulers": [s.state_dict() for s in _schedulers(runner)],
            "best": dict(best),
        },
        path,
    )


def _schedulers(runner: Runner) -> list[Any]:
    """All schedulers; with a critic, mmengine keeps them by optimiser."""
    found = runner.param_schedulers
    return [s for own in found.values() for s in own] if isinstance(found, dict) else list(found)


def read_state(run: Path) -> dict[str, Any]:
    """The resumable state of a run folder."""
    path = run / STATE
    if not path.is_file():
        raise UserError(f"nothing to resume in {run}: it holds no {STATE} (start without --resume)")
    return read_file(path)


def read_file(path: Path) -> dict[str, Any]:
    """What ``save_atomically`` wrote there, on the CPU; a UserError if it cannot be read."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"cannot read {path}: it is damaged ({type(error).__name__}); start anew") from error
    return content


def restore(runner: Runner, state: Mapping[str, Any]) -> None:
    """Put a saved state into a runner whose optimiser and schedulers are built."""
    own = bare(runner.model).state_dict()
    saved: Mapping[str, Tensor] = state["model"]
    differing = sorted(set(own) ^ set(saved)) or sorted(k for k in own if own[k].shape != saved[k].shape)
    if differing:
        raise UserError(f"the run to resume holds another model: {differing[0]!r} differs (same config as before?)")
    bare(runner.model).load_state_dict(dict(saved))
    runner.optim_wrapper.load_state_dict(state["optimizer"])
    schedulers = _schedulers(runner)
    if len(schedulers) != len(state["schedulers"]):
        raise UserError("the run to resume has another schedule: set schedule.warmup and schedule.policy as they were")
    for scheduler, content in zip(schedulers, state["schedulers"], strict=True):
        scheduler.load_state_dict(content)
    runner.train_loop._iter = state["step"]
