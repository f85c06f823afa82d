"""``segkd bench``: latency, FPS, parameters, MACs and peak memory, interleaved in one process.

``segkd bench blocks`` compares the blocks of which the networks are made.
"""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import (
    add_config_arguments,
    add_json_argument,
    add_threads_argument,
    console,
    following,
    load,
    parse_size,
    positive,
    save_json,
    say,
)
from segkd.errors import UserError


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

        if args.files:
            raise UserError(
                f"`segkd bench blocks` times no files; to time {args.files[0]}, name its config or run folder"
            )

        bench_blocks.run(args)
        return
    if args.channels:
        raise UserError("--channels is for `segkd bench blocks`; a network has its own")
    from segkd.report.tables import comparison_table
    from segkd.training.environment import environment
    from segkd.workbench.comparison import common_size, size_text, time_models
    from segkd.workbench.runs import crop_size, open_models

    cfg = load(args)
    models = open_models(cfg, args.files, args.threads)
    size = common_size(models, args.size) or crop_size(cfg)
    with following() as progress:
        rows = time_models(models, size, args.batch, max(args.repeats, 2), progress)
    about = environment(cfg.get("seed"))
    say(f"images of {size_text(size)} (HxW), batch {args.batch}, {args.threads} threads:", style="bold")
    console.print(comparison_table(rows))
    for row in rows:
        say(f"{row['name']}: loading it and one call took {row['peak_memory_mib']:.1f} MiB more memory")
    say(", ".join(f"{k}: {v}" for k, v in about["hardware"].items() if v is not None))
    save_json(args.json, {"batch": args.batch, "threads_asked": args.threads, "rows": rows, **about})
