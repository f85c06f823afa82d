"""The layers of a config's networks that can be tapped, and the shapes that meet in its binds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from segkd.inspection import LayerInfo as LayerInfo
from segkd.inspection import describe_layers
from segkd.memory import check_inference
from segkd.segmentor import TrainingModel, probe_input
from segkd.training.build import build_model
from segkd.training.configfile import textual
from segkd.workbench import Row

#: of a bind, shown where a config sets them
OPTIONS = ("of", "schedule", "lr_factor", "teacher_scale", "masked", "size", "first_stage")
ABOUT_WEIGHTS = ("weights", "published", "pretrained")


class NetworkLayers(NamedTuple):
    """One network: the name of its class, and every layer that can be tapped."""

    type: str
    layers: list[LayerInfo]


class Anatomy(NamedTuple):
    """A training model: its networks by role (student, teachers), and a row for each pair of taps that meets."""

    networks: dict[str, NetworkLayers]
    binds: list[Row]


def inspect_model(cfg: Mapping[str, Any], size: tuple[int, int]) -> Anatomy:
    """The networks and binds of a config for images of ``size`` (H, W); no weights are read."""
    check_inference(2, size)  # how many classes there are is known when it is built, for that size
    model = build_model({**cfg, "model": without_weights(cfg["model"]) | {"probe_size": size}})
    networks = {
        role: NetworkLayers(type(network).__name__, _layers(network, size))
        for role, network in {"student": model.student, **getattr(model, "teachers", {})}.items()
    }
    return Anatomy(networks, _binds(model, textual(cfg["model"].get("binds", {}))))


def without_weights(model: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a training model that reads and fetches no weights: shapes and times do not depend on them."""
    plain = dict(model) | {key: _untrained(model[key]) for key in ("network", "student", "teacher") if key in model}
    if "teachers" in plain:
        plain["teachers"] = {name: _untrained(cfg) for name, cfg in plain["teachers"].items()}
    return plain | ({"untrained_teacher": True} if {"teacher", "teachers"} & set(plain) else {})


def _untrained(cfg: Any) -> Any:
    return {k: v for k, v in cfg.items() if k not in ABOUT_WEIGHTS} if isinstance(cfg, Mapping) else cfg


def _layers(network: Any, size: tuple[int, int]) -> list[LayerInfo]:
    layers = describe_layers(network, probe_input(network, size))
    return [layer for layer in layers if not layer.path.startswith("preprocess")]


def _binds(model: TrainingModel, configs: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    rows = []
    for name, bind in getattr(model, "binds", {}).items():
        for m, connector in zip(bind.shapes, bind.connectors, strict=True):
            row = {"bind": name, "loss": type(bind.loss).__name__, "weight": bind.weight}
            row["connector"] = type(connector).__name__ if any(connector.children()) else None
            row["options"] = {key: configs[name][key] for key in OPTIONS if configs[name].get(key) is not None}
            rows.append(row | {k: getattr(m, k) for k in m.__slots__})
    return rows
