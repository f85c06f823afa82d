"""``segkd models``: every network with what it costs and what was published; ``segkd models NAME`` draws one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segkd.cli.common import add_json_argument, console, parse_size, positive, progress_bar, save_json, say, say_columns
from segkd.cli.paths import writable_file
from segkd.errors import UserError

SIZES = ((512, 1024), (1024, 2048))
PAGE = "models/NETWORKS.md"


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("models", help="list the networks with their cost, or draw one")
    parser.add_argument("name", metavar="NAME", nargs="?", help="draw this network, stage by stage")
    parser.add_argument(
        "--num-classes",
        type=positive,
        default=19,
        metavar="K",
        help="number of classes (default 19; the list of any other is counted anew, which takes a minute)",
    )
    parser.add_argument("--size", type=parse_size, default=None, metavar="HxW", help="of NAME (default 512x1024)")
    parser.add_argument(
        "--markdown",
        type=writable_file,
        metavar="FILE",
        nargs="?",
        const=Path(PAGE),
        help=f"write the list as a page (default {PAGE})",
    )
    add_json_argument(parser, "it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """The table of all, or the stages of one."""
    if args.name and args.markdown:
        raise UserError("--markdown writes the list of all networks: leave NAME out")
    if args.size and not args.name:
        raise UserError("--size is for one network: `segkd models NAME --size HxW`")
    if args.name:
        _draw(args.name, args.num_classes, args.size or SIZES[0], args.json)
    else:
        _list(args.num_classes, args.markdown, args.json)


def _list(num_classes: int, markdown: Path | None, json: Path | None) -> None:
    from segkd.files import replacing
    from segkd.models.catalogue import catalogue
    from segkd.report.networks import networks_markdown, networks_table

    known = catalogue()
    rows = rows_of(known, num_classes)
    if markdown:
        with replacing(markdown) as temporary:
            temporary.write_text(networks_markdown(rows, num_classes, configs_of(known)), encoding="utf-8")
        say(f"wrote {markdown}")
    else:
        say(f"{len(rows)} networks at {num_classes} classes; MACs of one image, height x width:", style="bold")
        console.print(networks_table(rows))
    save_json(json, {"num_classes": num_classes, "networks": rows})


def rows_of(known: Any, num_classes: int) -> list[dict[str, Any]]:
    """One row a network: of the shipped table, or counted anew where that has none (half a second or more each)."""
    from segkd.models.catalogue import counted

    table = counted(num_classes)
    rows = []
    with progress_bar("counting", len(known)) as bar:
        for label, entry in known.items():
            rows.append(table.get(label) or describe(label, entry, num_classes))
            bar.advance(bar.task_ids[0])
    return rows


def describe(label: str, entry: Any, num_classes: int) -> dict[str, Any]:
    """Parameters, MACs and taps, counted on the meta device (no memory, no arithmetic), and what was published."""
    import torch

    from segkd.evaluation.speed import count_macs, count_parameters

    network = entry.on_meta(num_classes)
    with torch.device("meta"):
        macs = {f"{h}x{w}": count_macs(network, (h, w)) for h, w in SIZES}
    return {
        "name": label,
        "kind": entry.kind,
        "parameters": count_parameters(network),
        "macs": macs,
        "taps": [info._asdict() for info in network.feature_info],
        "paper": network.paper,
        "results": [result._asdict() for result in network.results],
    }


def configs_of(known: Any) -> dict[str, list[str]]:
    """label -> the shipped configs that train this network (alone or taught)."""
    from inspect import signature

    from segkd.models import NETWORKS
    from segkd.training.configfile import load_config, shipped, textual

    found: dict[str, list[str]] = {label: [] for label in known}
    for name in shipped():
        model = load_config(name)["model"]
        network = dict(model.get("student") or model["network"])
        kind = NETWORKS.resolve(network.pop("type"))
        default = {key: parameter.default for key, parameter in signature(kind).parameters.items()}
        same = {label: entry.options for label, entry in known.items() if NETWORKS.get(entry.name) is kind}
        tells_apart = {key for options in same.values() for key in options}
        given = {key: str(textual(network.get(key, default.get(key)))).lower() for key in tells_apart}
        for label, options in same.items():
            if given == {key: str(options.get(key, default.get(key))).lower() for key in tells_apart}:
                found[label].append(name)
    return found


def _draw(label: str, num_classes: int, size: tuple[int, int], json: Path | None) -> None:
    import torch

    from segkd.models.catalogue import entry
    from segkd.report.networks import describe_result

    network = entry(label).on_meta(num_classes)
    with torch.device("meta"):
        stages = _stages(network, size)
    say(f"{label}: {network.paper}" if network.paper else label, style="bold")
    for result in network.results:
        say("  published: " + describe_result(result._asdict()))
    rows = [("stage", "layer", "parameters", "stride", "channels x H x W", "tap")]
    for stage in stages:
        shape = " x ".join(map(str, stage["shape"][1:]))
        rows.append((stage["path"], stage["type"], f"{stage['parameters']:,}", stage["stride"], shape, stage["tap"]))
    say_columns(rows, right=(2, 3))
    total = sum(p.numel() for p in network.parameters())
    say(f"{total:,} parameters, input {size[0]}x{size[1]} (HxW), {num_classes} classes")
    save_json(json, {"name": label, "size": size, "parameters": total, "stages": stages})


def _stages(network: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The children of the network that give maps (smp's have empty ones), as they finish, and every tap."""
    from segkd.evaluation.speed import count_parameters
    from segkd.inspection import describe_layers
    from segkd.segmentor import probe_input

    taps = {info.path: info.stride for info in network.feature_info}
    layers = [x for x in describe_layers(network, probe_input(network, size)) if len(x.shape) == 4 and x.shape[1]]
    shown = [x for x in layers if x.path in taps or (x.path.count(".") == 0 and x.path not in ("", "preprocess"))]
    return [
        {
            "path": x.path,
            "type": x.type,
            "parameters": count_parameters(network.get_submodule(x.path.partition("#")[0].partition(":")[0])),
            "stride": "" if x.stride is None else f"{taps.get(x.path, x.stride):g}",
            "shape": x.shape,
            "tap": "*" if x.path in taps else "",
        }
        for x in shown
    ]
