"""``segkd bench``: latency, FPS, parameters, MACs and peak memory, in turns, each model in a process of its own.

``segkd bench blocks`` compares the blocks of which the networks are made, ``segkd bench step CONFIG`` takes a training
step apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segkd.cli.common import (
    add_json_argument,
    add_run_arguments,
    console,
    following,
    load,
    parse_size,
    positive,
    save_json,
    say,
    take_files,
    thread_count,
)
from segkd.errors import UserError

if TYPE_CHECKING:
    from segkd.workbench.bench import Bench

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
        "--batch",
        type=counts,
        metavar="N[,N]",
        help="images per call (default 1), or per training step (the config's); 1,4,8: also how times grow",
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
    parser.add_argument(
        "--threads", type=thread_counts, metavar="N[,N]", help="CPU threads (default 2); 1,2,4: also what more bring"
    )
    add_json_argument(parser, "it")
    parser.set_defaults(run=run)


def counts(text: str) -> tuple[int, ...]:
    """Integers from 1 up with commas between them, each once."""
    return tuple(dict.fromkeys(positive(part) for part in text.split(",")))


def thread_counts(text: str) -> tuple[int, ...]:
    """Numbers of threads with commas between them, each once."""
    return tuple(dict.fromkeys(thread_count(part) for part in text.split(",")))


def single(given: tuple[int, ...] | None, flag: str) -> int | None:
    """The one number of a flag that may have several elsewhere."""
    if given is not None and len(given) > 1:
        raise UserError(f"{flag} takes one number here; several are for models: segkd bench CONFIG FILE...")
    return given[0] if given else None


def run(args: argparse.Namespace) -> None:
    """Time everything, and print the table with the hardware under it; CONFIG "blocks" or "step" times these."""
    if args.config == "step":
        from segkd.cli import bench_step

        args.batch, args.threads = single(args.batch, "--batch"), single(args.threads, "--threads")
        bench_step.run(args)
        return
    if args.untrained or args.random_images:
        raise UserError("--untrained and --random-images are for `segkd bench step CONFIG`")
    args.repeats = args.repeats or 50
    if args.config == "blocks":
        from segkd.cli import bench_blocks

        if args.files:
            raise UserError(
                f"`segkd bench blocks` times no files; to time {args.files[0]}, name its config or run folder"
            )

        args.batch, args.threads = single(args.batch, "--batch") or 1, single(args.threads, "--threads") or 2
        bench_blocks.run(args)
        return
    if args.channels:
        raise UserError("--channels is for `segkd bench blocks`; a network has its own")
    _time(args, args.batch or (1,), args.threads or (2,))


def _time(args: argparse.Namespace, batches: Sequence[int], threads: Sequence[int]) -> None:
    """Time models, each in a process of its own; the failed ones are named last."""
    from segkd.training.environment import environment
    from segkd.workbench.bench import bench_apart, measure_peaks
    from segkd.workbench.runs import crop_size, model_sources
    from segkd.workbench.timing import size_text

    take_files(args)
    cfg = load(args)
    with following() as progress:
        found = bench_apart(
            lambda count: model_sources(cfg, args.files, count), args.size, lambda: crop_size(cfg), batches=batches,
            threads=threads, repeats=args.repeats, operators=args.operators, progress=progress,
        )  # fmt: skip
    about = environment(cfg.get("seed"))
    peaks = measure_peaks(threads[0]) if args.peak else {}
    say(f"images of {size_text(found.size)} (HxW), batch {batches[0]}, {threads[0]} threads:", style="bold")
    _tell(found, peaks)
    say(", ".join(f"{k}: {v}" for k, v in about["hardware"].items() if v is not None))
    content = {"batch": batches[0], "threads_asked": threads[0], "rows": found.rows, "scaling": found.scaling}
    more = {"peak_gmacs_per_s": peaks, "operators": found.operators}
    save_json(args.json, {**content, **more, **about})
    if found.failure:
        raise UserError(found.failure)


def _tell(found: Bench, peaks: Mapping[str, float]) -> None:
    """Print the tables, and the lines below them."""
    from segkd.report.tables import comparison_table, noise_lines, peak_lines, scaling_table

    rows = [row for row in found.rows if "crashed" not in row]
    if rows:
        console.print(comparison_table(rows))
    if found.scaling:
        console.print(scaling_table(found.scaling))
    for name in found.shared if len(rows) > 1 else ():
        say(f"{name}: timed in this process, as no other one knows its class", style="yellow")
    for row in rows:
        say(f"{row['name']}: loading it and one call took {row['peak_memory_mib']:.1f} MiB more memory")
    for line in noise_lines(rows):
        say(line, style="yellow")
    for line in peak_lines(rows, peaks):
        say(line)
    for name, shares in found.operators.items():
        most = ", ".join(f"{op} {share:.0f} %" for op, share in list(shares.items())[:SHOWN])
        say(f"{name}: {most}")
