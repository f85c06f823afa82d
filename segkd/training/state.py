"""Files of a run: the state to resume from, and student weights as tensors alone. Never half-written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segkd.errors import UserError
from segkd.files import remove_unfinished, replacing
from segkd.segmentor import TrainingModel
from segkd.training.log import FIRST_STAGES, LOG
from segkd.training.optim import Minimizer
from segkd.training.precision import Precision

STATE = "state.pth"
LAST = "student_last.pth"
BEST = "student_best.pth"
EMA = "student_ema.pth"
VIS = "vis"  # folder of what a logger writes (engine.logger)
NOT_OF_KIND = ("initial_lr", "first_lr", "lr_mult", "decay_mult")  # what schedules add to an optimiser's groups


@contextmanager
def run_folder(run: Path, resume: bool) -> Iterator[None]:
    """Make the folder ``run``. A new run that ends before its first state and without a first stage's result leaves
    nothing there, if by a user's mistake; else its log, if there is one. A resumed run that ends before its next state
    leaves the config of the last one. What a killed process has left half-written is removed.
    """
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    run.mkdir(parents=True, exist_ok=True)
    remove_unfinished(run)
    config, state = run / "config.py", run / STATE
    before = (config.read_bytes(), state.stat().st_mtime_ns) if config.is_file() and state.is_file() else None
    if not resume:
        for file in (run / LOG, *run.glob(FIRST_STAGES)):  # of a run that ended before its first state
            file.unlink(missing_ok=True)
        _remove(run / VIS)
    try:
        yield
    except BaseException as error:
        worth = [run / name for name in (STATE, BEST, EMA, LAST)] + list(run.glob(FIRST_STAGES))
        if not isinstance(error, UserError):
            worth.append(run / LOG)
        if before is not None and state.stat().st_mtime_ns == before[1] and config.read_bytes() != before[0]:
            with replacing(config) as temporary:
                temporary.write_bytes(before[0])
        if not resume and not any(file.exists() for file in worth):
            for name in ("config.py", LOG):
                (run / name).unlink(missing_ok=True)
            _remove(run / VIS)
            with suppress(OSError):  # raised by the first folder that holds something else
                for folder in made:
                    folder.rmdir()
        raise


def _remove(folder: Path) -> None:
    """Delete a folder with all that it holds, if it is there."""
    if folder.is_dir():
        shutil.rmtree(folder)


def save_atomically(content: Any, path: Path) -> None:
    """``torch.save`` beside, then rename; a full disk is an OSError that names ``path``."""
    with replacing(path) as temporary, temporary.open("wb") as stream:  # given a path, torch hides why it failed
        torch.save(content, stream)


def save_student(network: nn.Module, path: Path) -> None:
    """A network's state dict (preprocessing included, nothing else), on the CPU and contiguous."""
    save_atomically({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}, path)


def read_state(run: Path) -> dict[str, Any]:
    """The resumable state of a run folder."""
    path = run / STATE
    if not path.is_file():
        raise UserError(f"nothing to resume in {run}: it holds no {STATE} (start without --resume)")
    state = read_file(path)
    if not isinstance(state, dict) or not {"step", "seed", "model", "best"} <= set(state):
        raise UserError(f"{path} is no state of a run: start anew, or put back the right file")
    return state


def read_file(path: Path) -> dict[str, Any]:
    """What ``save_atomically`` wrote there, on the CPU; a UserError if it cannot be read."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"cannot read {path}: it is damaged ({type(error).__name__}); start anew") from error
    return content


def check_state(model: TrainingModel, minimizers: Mapping[str, Minimizer], state: Mapping[str, Any]) -> None:
    """A UserError unless a saved state fits the model and its optimisers."""
    own, saved = model.state_dict(), state["model"]
    differing = sorted(set(own) ^ set(saved)) or sorted(k for k in own if own[k].shape != saved[k].shape)
    if differing:
        raise UserError(f"the run to resume holds another model: {differing[0]!r} differs (same config as before?)")
    if "optimizers" not in state:
        raise UserError("the run to resume was written by an earlier segkd, whose states are not read: start anew")
    for name, minimizer in minimizers.items():
        kept = state["optimizers"].get(name, {}).get("param_groups", [])
        sides = [minimizer.optimizer.param_groups, kept]
        counts = [[len(group["params"]) for group in side] for side in sides]
        if counts[0] != counts[1]:
            raise UserError(
                "the run to resume has other groups of parameters: set optim.paramwise and the binds' lr_factor as "
                "they were, or start anew"
            )
        kinds = [{key for group in side for key in group if key not in NOT_OF_KIND} for side in sides]
        if kinds[0] != kinds[1]:
            raise UserError(
                "the run to resume was trained by another optimiser: set optim.optimizer and optim.critic as they "
                "were, or start anew"
            )


def load_state(
    state: Mapping[str, Any], model: TrainingModel, minimizers: Mapping[str, Minimizer], precision: Precision
) -> None:
    """Put back a saved state; rates, decay and all else of an optimiser that a config sets stay as they are."""
    check_state(model, minimizers, state)
    model.load_state_dict(dict(state["model"]))
    precision.load_state_dict(state["scaler"])
    for name, minimizer in minimizers.items():
        own = minimizer.optimizer
        options = [{key: value for key, value in group.items() if key != "params"} for group in own.param_groups]
        own.load_state_dict(state["optimizers"][name])
        for group, given in zip(own.param_groups, options, strict=True):
            group.update(given)
