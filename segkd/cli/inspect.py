"""``segkd inspect``: every layer that can be tapped, and the shapes that meet in every bind."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from segkd.cli.common import (
    add_config_arguments,
    add_json_argument,
    default_size,
    load,
    parse_size,
    positive,
    save_json,
    say,
    say_columns,
)

if TYPE_CHECKING:
    from segkd.inspection import LayerInfo
    from segkd.segmentor import TrainingModel

#: of a bind, shown where a config sets them
OPTIONS = ("of", "schedule", "lr_factor", "teacher_scale", "masked", "size", "first_stage")


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("inspect", help="print what can be tapped, and the shapes that meet in every bind")
    add_config_arguments(parser)
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="input size (default: the config's crop)")
    parser.add_argument(
        "--depth", type=positive, metavar="N", help="only layers whose path has at most N names (default: every layer)"
    )
    add_json_argument(parser, "it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Build the model without needing any weights, and print it."""
    from segkd.training.build import build_model
    from segkd.training.configfile import textual

    cfg = load(args)
    size = args.size or default_size(cfg)
    model = build_model({**cfg, "model": _without_weights(cfg["model"]) | {"probe_size": size}})
    content = {role: _layers(network, size) for role, network in _networks(model).items()}
    for role, network in _networks(model).items():
        _print_layers(f"{role} {type(network).__name__}, input {size[0]}x{size[1]} (HxW)", content[role], args.depth)
    binds = _binds(model, textual(cfg["model"].get("binds", {})))
    _print_binds(binds)
    save_json(args.json, {"layers": {k: [x._asdict() for x in v] for k, v in content.items()}, "binds": binds})


def _without_weights(model: Mapping[str, Any]) -> dict[str, Any]:
    """Shapes do not depend on weights, so none are read or fetched."""

    def bare(cfg: Any) -> Any:
        about_weights = ("weights", "published", "pretrained")
        return {k: v for k, v in cfg.items() if k not in about_weights} if isinstance(cfg, Mapping) else cfg

    plain = dict(model) | {k: bare(model[k]) for k in ("network", "student", "teacher") if k in model}
    if "teachers" in plain:
        plain["teachers"] = {name: bare(cfg) for name, cfg in plain["teachers"].items()}
    return plain | ({"untrained_teacher": True} if {"teacher", "teachers"} & set(plain) else {})


def _networks(model: TrainingModel) -> dict[str, Any]:
    teachers = getattr(model, "teachers", {})
    return {"student": model.student, **teachers}


def _layers(network: Any, size: tuple[int, int]) -> list[LayerInfo]:
    from segkd.inspection import describe_layers
    from segkd.segmentor import probe_input

    layers = describe_layers(network, probe_input(network, size))
    return [layer for layer in layers if not layer.path.startswith("preprocess")]


def _print_layers(title: str, layers: list[LayerInfo], depth: int | None) -> None:
    shown = [x for x in layers if depth is None or x.path.count(".") < depth]
    hidden = len(layers) - len(shown)
    say(f"{title}: {len(shown)} layers" + (f", and {hidden} deeper ones" if hidden else ""), style="bold")
    rows = [("tap", "layer", "channels", "stride", "HxW")]
    for x in shown:
        stride = "" if x.stride is None else f"{x.stride:g}"
        rows.append((_tap(x.path), x.type, str(x.channels or ""), stride, _text(x.shape[2:])))
    say_columns(rows, right=(2, 3, 4))
    say("")


def _binds(model: TrainingModel, configs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for name, bind in getattr(model, "binds", {}).items():
        for m, connector in zip(bind.shapes, bind.connectors, strict=True):
            row = {"bind": name, "loss": type(bind.loss).__name__, "weight": bind.weight}
            row["connector"] = type(connector).__name__ if any(connector.children()) else None
            row["options"] = {key: configs[name][key] for key in OPTIONS if configs[name].get(key) is not None}
            rows.append(row | {k: getattr(m, k) for k in m.__slots__})
    return rows


def _print_binds(binds: list[dict[str, Any]]) -> None:
    """Two lines for each pair of taps that meets, under a line that names loss, weight and connector."""
    last = None
    for b in binds:
        if b["bind"] != last:
            connector = f", connector {b['connector']}" if b["connector"] else ""
            options = "".join(f", {key} {_option(value)}" for key, value in b["options"].items())
            say(f"bind {b['bind']}: {b['loss']}, weight {b['weight']:g}{connector}{options}", style="bold")
            last = b["bind"]
        rows = [("", "tap", "gives", "enters the loss as")]
        rows += [
            (role, _tap(b[role]), _text(b[f"{role}_raw"]), _text(b[f"{role}_met"])) for role in ("student", "teacher")
        ]
        say_columns(rows, indent="  ")


def _option(value: Any) -> str:
    """A value of a bind's option, in words where it is a dict: ``warmup 1000, decay cosine``."""
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{key} {_option(inner)}" for key, inner in value.items()) + ")"
    return str(value)


def _tap(path: str) -> str:
    return path or '"" (the logits)'


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
