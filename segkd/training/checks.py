"""What is checked before a run writes its first file: each mistake is a UserError of one line."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segkd import memory
from segkd.datasets import SegmentationDataset
from segkd.datasets.base import RGB
from segkd.datasets.loading import Loader
from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.segmentor import TrainingModel
from segkd.training import processes
from segkd.training.build import unlabelled_in_step
from segkd.training.config import Config
from segkd.training.first_stage import build_stage_minimizer, check_kept, stages
from segkd.training.optim import build_minimizers
from segkd.training.precision import training_device
from segkd.training.rates import Rates
from segkd.training.state import LAST, STATE, check_state, read_state

State = Mapping[str, Any]


def check_folder(run: Path, cfg: Config, resume: bool, model: TrainingModel) -> State | None:
    """The state to resume from, or None for a run that starts; refuses a folder that does not fit."""
    if not resume:
        if (run / STATE).exists() or (run / LAST).exists():
            raise UserError(f"{run} already holds a run: add --resume to go on with it, or choose another --out")
        return None
    if not (run / STATE).exists():
        check_kept(cfg, run, model)
        if (run / "config.py").is_file() and stages(model):
            return None  # it was stopped in a first stage, or between these and the first state
    state = read_state(run)
    steps = cfg.schedule.steps or 0
    if state["step"] > steps or (state["step"] == steps and _is_finished(run, steps)):
        raise UserError(f"{run} has already trained {state['step']} steps; raise schedule.steps to train on")
    if state["seed"] != cfg.seed:
        raise UserError(f"{run} was trained with seed {state['seed']}, not {cfg.seed}")
    return state


def _is_finished(run: Path, steps: int) -> bool:
    """Whether a run came to its end: its last state is kept before the last validation, weights and this file."""
    try:
        content = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or a damaged one: it will be written anew
        return False
    return isinstance(content, dict) and content.get("steps") == steps


def check_classes(model: TrainingModel, dataset: SegmentationDataset) -> None:
    """The network and the data set must agree on the number of classes, and of bands."""
    network = model.student
    channels = getattr(dataset, "channels", RGB)  # of one that is only like one of ours
    if network.channels != channels:
        more = "; give it bands=dict(mean=[...], std=[...]) of the bands beyond the third" if channels > RGB else ""
        raise UserError(
            f"the student {type(network).__name__} takes images of {network.channels} bands, but those of "
            f"{type(dataset).__name__} have {channels}{more}"
        )
    if network.num_classes != dataset.num_classes:
        raise UserError(
            f"the student {type(network).__name__} has num_classes={network.num_classes}, but "
            f"{type(dataset).__name__} has {dataset.num_classes} classes; set num_classes={dataset.num_classes}"
        )


def check_banks(model: TrainingModel, images: int) -> None:
    """A memory with a place for each image needs as many as there are."""
    for name, bind in model.terms().items():
        places = getattr(bind.loss, "n_data", None)
        if places is not None and places < images:
            raise UserError(
                f"bind {name!r}: {type(bind.loss).__name__} has n_data={places}, but the training split holds {images} "
                f"images; set n_data={images}"
            )


def check_memory(cfg: Config, model: TrainingModel, batches: Loader) -> None:
    """What the student keeps of a batch must fit where it trains; crops of a size that is not known are let be."""
    dataset: Any = batches.dataset
    crop = getattr(dataset.transform, "crop_size", None)
    if not isinstance(crop, tuple) or len(crop) != 2:
        return
    device = training_device(cfg.engine.device)
    images = (cfg.data.batch_size + unlabelled_in_step(cfg)) // processes.world_size()
    if device.type == "cpu":  # which the processes of a machine share
        images *= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    half = cfg.engine.precision != "fp32"
    memory.check_training(model.student, (int(crop[0]), int(crop[1])), images, half, device)


def check_optimizers(cfg: Config, model: TrainingModel, state: State | None) -> None:
    """The optimisers and rates of the run can be built, those of its first stages too, and a state fits them."""
    minimizers = build_minimizers(cfg, model)
    for minimizer in minimizers.values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of a scheduler that steps before its optimiser
            Rates(minimizer.optimizer, cfg.schedule, cfg.schedule.steps or 0).try_out()
    for name, stage in stages(model).items():
        if stage["steps"] and isinstance(model, Distiller):
            build_stage_minimizer(cfg, model, name)
    if state is not None:
        check_state(model, minimizers, state)
