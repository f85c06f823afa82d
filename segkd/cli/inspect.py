"""``segkd inspect``: every layer that can be tapped, and the shapes that meet in every bind."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from segkd.cli.common import (
    WORDS,
    add_json_argument,
    add_run_arguments,
    add_word_arguments,
    load,
    parse_size,
    positive,
    save_json,
    say,
    say_columns,
)

if TYPE_CHECKING:
    from segkd.workbench.layers import LayerInfo


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("inspect", help="print what can be tapped, and the shapes that meet in every bind")
    add_run_arguments(parser)
    add_word_arguments(parser)
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="input size (default: the config's crop)")
    parser.add_argument(
        "--depth", type=positive, metavar="N", help="only layers whose path has at most N names (default: every layer)"
    )
    add_json_argument(parser, "it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Build the model without needing any weights, and print it."""
    from segkd.workbench.layers import inspect_model
    from segkd.workbench.runs import crop_size

    cfg = load(args, WORDS)
    size = args.size or crop_size(cfg)
    model = inspect_model(cfg, size)
    for role, network in model.networks.items():
        _print_layers(f"{role} {network.type}, input {_text(size)} (HxW)", network.layers, args.depth)
    _print_binds(model.binds)
    layers = {role: [layer._asdict() for layer in network.layers] for role, network in model.networks.items()}
    save_json(args.json, {"layers": layers, "binds": model.binds})


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
