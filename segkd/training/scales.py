"""The factors of ``teacher_scale="auto"``: measured once on a run's first batch, then part of its config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from segkd.binding import AUTO, Bind
from segkd.datasets import SegmentationDataset
from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.meeting import root_mean_square
from segkd.segmentor import TrainingModel
from segkd.training import processes
from segkd.training.build import build_train_loader
from segkd.training.config import Config
from segkd.training.configfile import CONFIG, load_config


def settle_scales(
    given: Mapping[str, Any], cfg: Config, model: TrainingModel, data: SegmentationDataset, kept: Path | None = None
) -> tuple[Mapping[str, Any], list[str]]:
    """The config with a number for each ``teacher_scale="auto"``, and lines that say what was measured.

    Its bind has the number from now on, two digits of it; it brings the root mean square of what the teacher gives for
    the run's first batch to 1.

    Args:
        given: the config as a mapping; it stays as it is.
        cfg, model, data: of the run; the model is on its device.
        kept: the folder of a run that goes on, whose numbers are taken.

    Raises:
        UserError: a teacher's features are 0 everywhere, or not finite.
    """
    unknown = {name: bind for name, bind in model.terms().items() if bind.scale_unknown}
    if not unknown or not isinstance(model, Distiller):
        return given, []
    resumed = kept is not None and (kept / CONFIG).is_file()
    scales = _kept(kept, unknown) if kept is not None and resumed else _measured(cfg, model, data, unknown)
    new = {**given, "model": {**given["model"], "binds": copy.copy(dict(given["model"]["binds"]))}}
    for name, scale in scales.items():
        new["model"]["binds"][name] = {**new["model"]["binds"][name], "teacher_scale": scale}
    said = [f"{name}: teacher_scale={scale:g}, measured on the first batch" for name, scale in scales.items()]
    return new, [] if resumed else said


def _kept(folder: Path, unknown: Mapping[str, Bind]) -> dict[str, float]:
    binds = load_config(folder)["model"]["binds"]
    scales = {name: binds.get(name, {}).get("teacher_scale", AUTO) for name in unknown}
    for name, scale in scales.items():
        if scale == AUTO:
            raise UserError(f"bind {name!r}: {folder} keeps no teacher_scale; set it to a number")
        unknown[name].set_scale(1 / scale)
    return scales


@torch.no_grad()
def _measured(
    cfg: Config, model: Distiller, data: SegmentationDataset, unknown: Mapping[str, Bind]
) -> dict[str, float]:
    steps = cfg.schedule.steps or 1
    batch = next(iter(build_train_loader(replace(cfg, data=replace(cfg.data, workers=0)), data, 0, steps)))
    device = next(model.parameters()).device
    views = {key: value.to(device) for key, value in batch.items() if key not in ("label", "index", "labelled")}
    features = model.taught(unknown, views.pop("image"), views)
    scales = {}
    for name, bind in unknown.items():
        square = root_mean_square(list(features[name].values())).square()
        try:
            scales[name] = bind.set_scale(float(processes.mean(square).sqrt()))
        except UserError as error:
            raise UserError(f"bind {name!r}: {error}") from error
    return scales
