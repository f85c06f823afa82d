"""``segkd bench``: latency, FPS, parameters, MACs and peak memory, interleaved in one process.

``segkd bench blocks`` compares the blocks of which the networks are made.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from segkd.cli.common import (
    add_config_arguments,
    add_json_argument,
    add_threads_argument,
    console,
    default_size,
    load,
    parse_size,
    positive,
    save_json,
    say,
)
from segkd.cli.paths import named
from segkd.errors import UserError

if TYPE_CHECKING:
    from segkd.deploy.runtimes import Runtime


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "bench", help="time weights and ONNX files, or the networks' blocks, against each other"
    )
    add_config_arguments(parser)
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help=".pth or .onnx (default: the config's student, untrained)"
    )
    parser.add_argument(
        "--size", type=parse_size, metavar="HxW", help="image size (default: the ONNX files', else the config's crop)"
    )
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="images per call (default 1)")
    parser.add_argument("--channels", type=positive, metavar="C", help="of `segkd bench blocks` (default 128)")
    parser.add_argument("--repeats", type=positive, default=50, metavar="N", help="timed calls of each (default 50)")
    add_threads_argument(parser)
    add_json_argument(parser, "it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Time everything, and print the table with the hardware under it; CONFIG "blocks" times the networks' blocks."""
    if args.config == "blocks":
        from segkd.cli import bench_blocks

        bench_blocks.run(args)
        return
    if args.channels:
        raise UserError("--channels is for `segkd bench blocks`; a network has its own")
    from segkd.cli import measure
    from segkd.deploy.runtimes import TorchRuntime
    from segkd.report.tables import comparison_table
    from segkd.training.build import build_student
    from segkd.training.environment import environment

    cfg = load(args)
    models: dict[str, Runtime] = {n: measure.open_model(cfg, f, args.threads) for n, f in named(args.files).items()}
    if not models:
        models = {"student, untrained": TorchRuntime(build_student(cfg).to(measure.device()), threads=args.threads)}
    size = _size(args.size, models, cfg)
    timed = measure.speed(models, size, args.batch, max(args.repeats, 2))
    rows = [{"name": name, **row} for name, row in timed.items()]
    about = environment(cfg.get("seed"))
    say(f"images of {measure.text(size)} (HxW), batch {args.batch}, {args.threads} threads:", style="bold")
    console.print(comparison_table(rows))
    for row in rows:
        say(f"{row['name']}: loading it and one call took {row['peak_memory_mib']:.1f} MiB more memory")
    say(", ".join(f"{k}: {v}" for k, v in about["hardware"].items() if v is not None))
    save_json(args.json, {"batch": args.batch, "threads_asked": args.threads, "rows": rows, **about})


def _size(asked: tuple[int, int] | None, models: Mapping[str, Runtime], cfg: Mapping[str, Any]) -> tuple[int, int]:
    """The one size at which all are timed: as asked, else the ONNX files', else the config's crop."""
    from segkd.cli.measure import text

    fixed = {name: model.size for name, model in models.items() if model.size is not None}
    size = asked or next(iter(fixed.values()), None) or default_size(cfg)
    for name, own in fixed.items():
        if own != size:
            raise UserError(f"{name} takes images of {text(own)} (HxW), not {text(size)}: export one for that size")
    return size
