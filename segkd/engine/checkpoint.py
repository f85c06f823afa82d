"""Files of a run: the state to resume from, and student weights as tensors alone. Never half-written."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn

from segkd.errors import UserError
from segkd.files import replacing
from segkd.segmentor import TrainingModel

STATE = "state.pth"
LAST = "student_last.pth"
BEST = "student_best.pth"
LOG = "log.jsonl"
FIRST_STAGES = "first_stage_*.pth"
NOT_OF_KIND = ("initial_lr", "lr_mult", "decay_mult")  # keys that schedulers and mmengine add to an optimiser's groups


@contextmanager
def run_folder(run: Path, resume: bool) -> Iterator[None]:
    """Make the folder ``run``. A new run that ends before its first state and without a first stage's result leaves
    nothing there, if by a user's mistake; else its log, if there is one. A resumed run that ends before its next state
    leaves the config of the last one.
    """
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    run.mkdir(parents=True, exist_ok=True)
    config, state = run / "config.py", run / STATE
    before = (config.read_bytes(), state.stat().st_mtime_ns) if config.is_file() and state.is_file() else None
    if not resume:
        for file in (run / LOG, *run.glob(FIRST_STAGES)):  # of a run that ended before its first state
            file.unlink(missing_ok=True)
    try:
        yield
    except BaseException as error:
        worth = [run / name for name in (STATE, BEST, LAST)] + list(run.glob(FIRST_STAGES))
        if not isinstance(error, UserError):
            worth.append(run / LOG)
        if resume and before is not None and state.stat().st_mtime_ns == before[1]:
            config.write_bytes(before[0])
        if not resume and not any(file.exists() for file in worth):
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


def trim_log(run: Path, step: int) -> None:
    """Drop the log's lines on steps after ``step``, which a resumed run takes again, and on first stages not kept."""
    path = run / LOG
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)

    def stays(line: str) -> bool:
        try:
            record = json.loads(line)
        except ValueError:  # half a line, of a process that was killed
            return False
        stage = record.get("first_stage")
        return (run / FIRST_STAGES.replace("*", stage)).is_file() if stage else record["step"] <= step

    with replacing(path) as temporary:
        temporary.write_text("".join(line for line in lines if stays(line)), encoding="utf-8")


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


def check_state(model: TrainingModel, wrapper: OptimWrapper | OptimWrapperDict, state: Mapping[str, Any]) -> None:
    """A UserError unless a saved state fits the model and its optimisers."""
    own, saved = model.state_dict(), state["model"]
    differing = sorted(set(own) ^ set(saved)) or sorted(k for k in own if own[k].shape != saved[k].shape)
    if differing:
        raise UserError(f"the run to resume holds another model: {differing[0]!r} differs (same config as before?)")
    kept = _kept(wrapper, state["optimizer"])
    for name, own_wrapper in _by_name(wrapper).items():
        groups = [own_wrapper.optimizer.param_groups, kept.get(name, {}).get("param_groups", [])]
        if [len(group["params"]) for group in groups[0]] != [len(group["params"]) for group in groups[1]]:
            raise UserError(
                "the run to resume has other groups of parameters: set optim.paramwise and the binds' lr_factor as "
                "they were, or start anew"
            )
        kinds = [{key for group in side for key in group if key not in NOT_OF_KIND} for side in groups]
        if kinds[0] != kinds[1]:
            raise UserError(
                "the run to resume was trained by another optimiser: set optim.optimizer and optim.critic as they "
                "were, or start anew"
            )


def load_optimizer(wrapper: OptimWrapper | OptimWrapperDict, saved: Mapping[str, Any]) -> None:
    """What the optimisers remember; rates, decay and all else that a config sets stay as they are."""
    kept = _kept(wrapper, saved)
    for name, own in _by_name(wrapper).items():
        options = [{key: value for key, value in group.items() if key != "params"} for group in own.param_groups]
        own.load_state_dict({**kept[name], "base_param_settings": own.base_param_settings})
        for group, given in zip(own.param_groups, options, strict=True):
            group.update(given)


def _by_name(wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, OptimWrapper]:
    return dict(wrapper.items()) if isinstance(wrapper, OptimWrapperDict) else {"": wrapper}


def _kept(wrapper: OptimWrapper | OptimWrapperDict, saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """The saved states by the same names."""
    return saved if isinstance(wrapper, OptimWrapperDict) else {"": saved}


def restore(runner: Runner, state: Mapping[str, Any]) -> None:
    """Put a saved state into a runner whose optimiser and schedulers are built.

    Learning rates are those of the config's schedule at that step: it may be another than before.
    """
    model = bare(runner.model)
    check_state(model, runner.optim_wrapper, state)
    model.load_state_dict(dict(state["model"]))
    load_optimizer(runner.optim_wrapper, state["optimizer"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of schedulers that step before the optimiser has
        for _ in range(state["step"]):
            for scheduler in _schedulers(runner):
                scheduler.step()
    runner.train_loop._iter = state["step"]
