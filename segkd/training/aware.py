"""Quantization-aware training: the student made to round as its int8 file will, before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from segkd.datasets import SegmentationDataset
from segkd.datasets.calibration import calibration_images
from segkd.errors import UserError
from segkd.fakequant import FAKE_QUANT, FakeQuant, attach, detach, split_tensors
from segkd.segmentor import TrainingModel
from segkd.training.config import Config
from segkd.training.state import read_state

OWN = "student."


def make_aware(
    model: TrainingModel, cfg: Config, dataset: SegmentationDataset, state: Mapping[str, Any] | None
) -> list[str]:
    """Let a model's student round as the config's ``quantize`` says; what there is to be told, a line each.

    Args:
        model: the training model, with the student's weights.
        dataset: the training split, for calibration.
        state: of a run that goes on: the student rounds as it has so far.

    Raises:
        UserError: nothing to begin with, a network that cannot round as its file; a student that rounds already in a
            config without ``quantize``.
    """
    if cfg.quantize is None:
        if FAKE_QUANT in model.student._modules:
            raise UserError(
                "the student's weights are of one that rounds as its int8 file: add quantize.route, or give those of "
                "the float student"
            )
        return []
    if state is not None:
        attach(model.student, FakeQuant.of(split_tensors(state["model"], OWN)[1]))
        return []
    notes = _begin(model, cfg)
    detach(model.student)
    places = _find(model, cfg, dataset)
    attach(model.student, places)
    values, weights = len(places.values), len(places.weights)
    return [*notes, f"the student rounds {values} values and the weights of {weights} layers as its int8 file will"]


def _begin(model: TrainingModel, cfg: Config) -> list[str]:
    """Weights to begin with: those of a run, or what the student's config names."""
    assert cfg.quantize is not None
    start = cfg.quantize.start
    given = cfg.model.get("student", cfg.model.get("network"))
    if start is None:
        if isinstance(given, Mapping) and not (given.get("weights") or given.get("init")):
            raise UserError(
                "quantize begins with a trained student: name its run by quantize.start=RUN, or its weights by "
                "model.student.weights=FILE"
            )
        return []
    if isinstance(given, Mapping) and given.get("weights"):
        raise UserError("quantize.start and the student's weights: give one of them")
    kept: Mapping[str, Tensor] = split_tensors(read_state(Path(start))["model"], OWN)[0]
    own = model.state_dict()
    fitting = {key: value for key, value in kept.items() if key in own and own[key].shape == value.shape}
    missing = [key for key in own if key not in fitting]
    if wrong := [key for key in missing if key.startswith(OWN)]:
        raise UserError(f"quantize.start: {start} is a run of another student: it has no {wrong[0].removeprefix(OWN)}")
    model.load_state_dict(fitting, strict=False)
    return [f"not in the run it begins with, {start}: {key}" for key in missing]


def _find(model: TrainingModel, cfg: Config, dataset: SegmentationDataset) -> FakeQuant:
    """The places of the route's file."""
    from segkd.deploy.places import find_places
    from segkd.deploy.routes import Choices

    quantize = cfg.quantize
    assert quantize is not None
    size = quantize.size or cfg.data.augment.get("crop_size")
    if size is None:
        raise UserError("the config has no data.augment.crop_size: say by quantize.size for which images the file is")
    shape = int(size[0]), int(size[1])
    images = calibration_images(dataset, shape, quantize.images)
    choices = Choices(quantize.ops, quantize.method, quantize.percentile, weight_bits=quantize.weight_bits)
    return find_places(model.student.eval(), quantize.route, images, shape, choices, count=quantize.images)
