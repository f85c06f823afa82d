"""``segkd inspect``: every layer that can be tapped, and the shapes that meet in every bind."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rich.table import Table

from segkd.cli.common import add_config_arguments, console, load, parse_size, save_json

if TYPE_CHECKING:
    from segkd.inspection import LayerInfo
    from segkd.segmentor import TrainingModel


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("inspect", help="print what can be tapped, and the shapes that meet in every bind")
    add_config_arguments(parser)
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="input size (default: the config's crop)")
    parser.add_argument("--all", action="store_true", help="also layers inside of blocks (deeper than three names)")
    parser.add_argument("--json", metavar="FILE", help="write it as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Build the model without needing the teacher's weights, and print it."""
    from segkd.engine.build import build_model

    cfg = load(args)
    size = args.size or tuple(cfg["data"]["augment"].get("crop_size", (256, 512)))
    model_cfg = dict(cfg["model"], probe_size=size)
    if "teacher" in model_cfg:  # shapes do not depend on weights, so inspecting needs none
        about_weights = ("weights", "published")
        model_cfg["teacher"] = {k: v for k, v in model_cfg["teacher"].items() if k not in about_weights}
        model_cfg["untrained_teacher"] = True
    model = build_model({**cfg, "model": model_cfg})
    content = {role: _layers(network, size) for role, network in _networks(model).items()}
    for role, layers in content.items():
        console.print(_layer_table(role, layers, args.all))
    binds = _binds(model)
    if binds:
        console.print(_bind_table(binds))
    save_json(args.json, {"layers": {k: [x._asdict() for x in v] for k, v in content.items()}, "binds": binds})


def _networks(model: TrainingModel) -> dict[str, Any]:
    teacher = getattr(model, "teacher", None)
    return {"student": model.student, **({"teacher": teacher} if teacher is not None else {})}


def _layers(network: Any, size: tuple[int, int]) -> list[LayerInfo]:
    from segkd.inspection import describe_layers
    from segkd.segmentor import probe_input

    layers = describe_layers(network, probe_input(network, size))
    return [layer for layer in layers if not layer.path.startswith("preprocess")]


def _layer_table(role: str, layers: list[LayerInfo], everything: bool) -> Table:
    shown = [x for x in layers if everything or x.path.count(".") < 3]
    table = Table(title=f"{role}: {len(shown)} of {len(layers)} layers", title_justify="left", box=None)
    for column in ("tap", "layer", "channels", "stride", "shape"):
        table.add_column(column, justify="right" if column in ("channels", "stride") else "left", overflow="fold")
    for layer in shown:
        stride = "" if layer.stride is None else f"{layer.stride:g}"
        table.add_row(layer.path or "(the logits)", layer.type, str(layer.channels or ""), stride, _text(layer.shape))
    return table


def _binds(model: TrainingModel) -> list[dict[str, Any]]:
    rows = []
    for name, bind in getattr(model, "binds", {}).items():
        for m in bind.shapes:
            row = {"bind": name, "loss": type(bind.loss).__name__, "weight": bind.weight}
            rows.append(row | {k: getattr(m, k) for k in m.__slots__})
    return rows


def _bind_table(binds: list[dict[str, Any]]) -> Table:
    table = Table(title="binds: what meets", title_justify="left", box=None)
    for column in (
        "bind",
        "loss",
        "weight",
        "student tap",
        "gives",
        "enters the loss as",
        "teacher tap",
        "gives",
        "enters as",
    ):
        table.add_column(column, overflow="fold")
    for b in binds:
        table.add_row(
            b["bind"], b["loss"], f"{b['weight']:g}",
            b["student"], _text(b["student_raw"]), _text(b["student_met"]),
            b["teacher"], _text(b["teacher_raw"]), _text(b["teacher_met"]),
        )  # fmt: skip
    return table


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
