"""``segkd bench``: latency, FPS, parameters, MACs and peak memory, interleaved in one process.

``segkd bench blocks`` compares the blocks of which the networks are made, ``segkd bench step CONFIG`` takes a training
step apart.
"""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import (
    add_json_argument,
    add_run_arguments,
    add_threads_argument,
    console,
    following,
    load,
    parse_size,
    positive,
    save_json,
    say,
    take_files,
)
from segkd.errors import UserError

SHOWN = 6  # operators


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "bench",
        help="time weights and ONNX files against each other, or the networks' blocks, or a training step's parts",
        description="`segkd bench CONFIG FILE...` times weights and ONNX files, `segkd bench blocks` the networks' "
        "blocks, `segkd bench step CONFIG` the parts of a training step, and a bare loop beside it.",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help=".pth or .onnx (default: the config's student, untrained)"
    )
    parser.add_argument(
        "--size", type=parse_size, metavar="HxW", help="image size (default: the ONNX files', else the config's crop)"
    )
    parser.add_argument(
        "--batch", type=positive, metavar="N", help="images per call (default 1), or per training step (the config's)"
    )
    parser.add_argument("--channels", type=positive, metavar="C", help="of `segkd bench blocks` (default 128)")
    parser.add_argument(
        "--repeats", type=positive, metavar="N", help="timed calls of each (default 50), or training steps (20)"
    )
    parser.add_argument(
        "--untrained", action="store_true", help="of `segkd bench step`: networks as they are made, no weights read"
    )
    parser.add_argument(
        "--random-images", action="store_true", help="of `segkd bench step`: noise in place of the data set"
    )
    parser.add_argument("--peak", action="store_true", help="also measure what the machine reaches at most, in GMAC/s")
    parser.add_argument("--operators", action="store_true", help="also say which operators of ONNX files take the time")
    add_threads_argument(parser)
    add_json_argument(parser, "it")
    parser.set_defaults(run=run, threads=None)


def run(args: argparse.Namespace) -> None:
    """Time everything, and print the table with the hardware under it; CONFIG "blocks" or "step" times these."""
    if args.config == "step":
        from segkd.cli import bench_step

        bench_step.run(args)
        return
    if args.untrained or args.random_images:
        raise UserError("--untrained and --random-images are for `segkd bench step CONFIG`")
    args.batch, args.repeats, args.threads = args.batch or 1, args.repeats or 50, args.threads or 2
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
    from segkd.report.tables import comparison_table, noise_lines, peak_lines
    from segkd.training.environment import environment
    from segkd.workbench.comparison import common_size, measure_peaks, operators_of, size_text, time_models
    from segkd.workbench.runs import crop_size, open_models

    take_files(args)
    cfg = load(args)
    models = open_models(cfg, args.files, args.threads)
    size = common_size(models, args.size) or crop_size(cfg)
    with following() as progress:
        rows = time_models(models, size, args.batch, max(args.repeats, 2), progress)
    about = environment(cfg.get("seed"))
    peaks = measure_peaks(args.threads) if args.peak else {}
    say(f"images of {size_text(size)} (HxW), batch {args.batch}, {args.threads} threads:", style="bold")
    console.print(comparison_table(rows))
    for row in rows:
        say(f"{row['name']}: loading it and one call took {row['peak_memory_mib']:.1f} MiB more memory")
    for line in noise_lines(rows):
        say(line, style="yellow")
    for line in peak_lines(rows, peaks):
        say(line)
    operators = operators_of(models, size, args.batch) if args.operators else {}
    for name, shares in operators.items():
        most = ", ".join(f"{op} {share:.0f} %" for op, share in list(shares.items())[:SHOWN])
        say(f"{name}: {most}")
    say(", ".join(f"{k}: {v}" for k, v in about["hardware"].items() if v is not None))
    more = {"peak_gmacs_per_s": peaks, "operators": operators}
    save_json(args.json, {"batch": args.batch, "threads_asked": args.threads, "rows": rows, **more, **about})
