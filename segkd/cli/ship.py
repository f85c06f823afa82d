"""``segkd ship``: the best file for a time, or the fastest for a score, on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segkd.cli.common import (
    add_config_arguments,
    add_threads_argument,
    console,
    following,
    load,
    parse_size,
    positive,
    say,
    words,
)
from segkd.files import writable_folder


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "ship",
        help="find the best file of a student within a time, or the fastest with a score, on this machine",
        description="Makes the student's files: for each image size float and int8, for ONNX Runtime and OpenVINO, "
        "with labels taken at each place; scores their labels on the split, times them here in turns, and puts the "
        "best within the budget into the folder, with all tries as table, JSON and picture, a script that runs it, and "
        "a card. Started again, it goes on where it stopped.",
    )
    add_config_arguments(parser)
    parser.add_argument("--weights", metavar="FILE", help="student weights (default: a run folder's best student)")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--max-ms", type=float, metavar="X", help="the most accurate file that takes X ms or less")
    budget.add_argument("--min-miou", type=float, metavar="X", help="the fastest file with an mIoU (%%) of X or more")
    parser.add_argument(
        "--sizes", type=sizes, required=True, metavar="HxW,HxW", help="image sizes to try, the likeliest first"
    )
    parser.add_argument("--ways", type=words, default=(), metavar="WAY,WAY", help="ways to run it (default: all here)")
    parser.add_argument("--split", default="val", help="what labels are scored on: train, val (default) or test")
    parser.add_argument("--images", type=positive, metavar="N", help="of it, N images drawn once (default: all)")
    parser.add_argument("--calibration", type=positive, default=16, metavar="N", help="calibration images (16)")
    parser.add_argument("--minutes", type=float, metavar="M", help="begin with no further file after that")
    parser.add_argument("--out", type=writable_folder, default="work/ship", metavar="DIR", help="folder (work/ship)")
    add_threads_argument(parser)
    parser.set_defaults(run=run)


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Sizes HxW with commas between them."""
    return tuple(parse_size(part) for part in text.split(","))


def run(args: argparse.Namespace) -> None:
    """Search, and write what was found."""
    from segkd.report.shipment import write_shipment
    from segkd.report.tables import ship_table
    from segkd.training.build import build_dataset, class_names
    from segkd.training.environment import environment
    from segkd.workbench.runs import weights_of
    from segkd.workbench.ship import Budget, ship
    from segkd.workbench.snippets import texts_beside

    cfg = load(args)
    weights = args.weights or weights_of(args.config)
    folder = Path(args.out)
    with following() as progress:
        found = ship(
            cfg,
            weights,
            folder,
            args.sizes,
            Budget(args.max_ms, args.min_miou),
            ways=args.ways,
            split=args.split,
            images=args.images,
            calibration=args.calibration,
            threads=args.threads,
            minutes=args.minutes,
            progress=progress,
        )
    names, count = class_names(cfg)[0], args.images or len(build_dataset(cfg, args.split))
    about = {"split": args.split, "images": count, "threads": args.threads, **environment(cfg.get("seed"))}
    front = {str(row["name"]) for row in found.front}
    console.print(ship_table([{**row, "front": "*" if row["name"] in front else ""} for row in found.rows]))
    for name in found.left_out:
        say(f"left out for time: {name}", style="yellow")
    if noisy := sum(bool(row["noisy"]) for row in found.rows):
        say(f"{noisy} of {len(found.rows)} times are noisy: something else is running here", style="yellow")
    row = found.row
    say(f"{row['name']}: mIoU {row['miou']:.2f} in {row['latency_ms']:.1f} ms -> {found.path}", style="bold")
    texts = texts_beside(row, found.path.name, names, about)
    write_shipment(folder, found.rows, found.front, row, found.left_out, texts, about)
    say(f"wrote {folder / 'ship.json'}")
