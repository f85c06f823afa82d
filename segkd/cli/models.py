"""``segkd models``: every network with what it costs and what was published; ``segkd models NAME`` draws one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segkd.cli.common import add_json_argument, console, following, parse_size, positive, save_json, say, say_columns
from segkd.errors import UserError
from segkd.files import writable_file

SIZE = (512, 1024)
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
    parser.add_argument("--released", action="store_true", help="list the trained networks that are released")
    parser.add_argument(
        "--download", metavar="NAME", help="get a released network, into $SEGKD_MODELS or ~/.cache/segkd"
    )
    parser.add_argument(
        "--from", dest="source", metavar="URL|DIR", help="of --download: where its folder lies (default: $SEGKD_ZOO)"
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
    """Print the table of all networks, or the stages and roles of one."""
    if args.download:
        _download(args.download, args.source)
        return
    if args.released:
        _list_released(args.json)
        return
    if args.name and args.markdown:
        raise UserError("--markdown writes the list of all networks: leave NAME out")
    if args.size and not args.name:
        raise UserError("--size is for one network: `segkd models NAME --size HxW`")
    if args.name:
        _draw(args.name, args.num_classes, args.size or SIZE, args.json)
    else:
        _list(args.num_classes, args.markdown, args.json)


def _list_released(json: Path | None) -> None:
    from segkd.workbench.zoo import place_of, releases

    rows = [["name", "network", "data", "classes", "mIoU (%)", "int8", "MiB", "where", "trained on"]]
    for one in releases().values():
        scores = [f"{one.miou:.2f}", "" if one.int8_miou is None else f"{one.int8_miou:.2f}"]
        size, where = f"{one.bytes / 2**20:.1f}", str(place_of(one.name) or "not here")
        rows.append([one.name, one.network, one.data, str(one.classes), *scores, size, where, one.licence])
    say_columns(rows, right=(3, 4, 5, 6))
    save_json(json, {"released": [one._asdict() for one in releases().values()]})


def _download(name: str, source: str | None) -> None:
    from segkd.workbench.zoo import download

    with following() as progress:
        folder = download(name, source, progress)
    say(f"{name}: {folder}")


def _list(num_classes: int, markdown: Path | None, json: Path | None) -> None:
    from segkd.files import replacing
    from segkd.report.networks import networks_markdown, networks_table
    from segkd.workbench.networks import describe_networks, parts_of

    with following() as progress:
        rows = describe_networks(num_classes, progress)
    if markdown:
        page = networks_markdown(rows, num_classes, parts_of(row["name"] for row in rows))
        with replacing(markdown) as temporary:
            temporary.write_text(page, encoding="utf-8")
        say(f"wrote {markdown}")
    else:
        say(f"{len(rows)} networks at {num_classes} classes; MACs of one image, height x width:", style="bold")
        console.print(networks_table(rows))
    save_json(json, {"num_classes": num_classes, "networks": rows})


def _draw(label: str, num_classes: int, size: tuple[int, int], json: Path | None) -> None:
    from segkd.report.networks import describe_result
    from segkd.workbench.networks import network_stages

    network = network_stages(label, num_classes, size)
    say(f"{label}: {network.paper}" if network.paper else label, style="bold")
    for result in network.results:
        say("  published: " + describe_result(result))
    rows = [("stage", "layer", "parameters", "stride", "channels x H x W", "tap")]
    for stage in network.stages:
        shape = " x ".join(map(str, stage["shape"][1:]))
        rows.append((stage["path"], stage["type"], f"{stage['parameters']:,}", stage["stride"], shape, stage["tap"]))
    say_columns(rows, right=(2, 3))
    roles = [("role", "tap")]
    for role, paths in network.roles.items():
        roles.append((f"@{role}", ", ".join(paths) if isinstance(paths, list) else paths or '"" (the network itself)'))
    say_columns(roles)
    say(f"{network.parameters:,} parameters, input {size[0]}x{size[1]} (HxW), {num_classes} classes")
    content = {"name": label, "size": size, "parameters": network.parameters, "stages": network.stages}
    save_json(json, content | {"roles": network.roles})
