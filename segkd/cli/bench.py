"""``segkd bench``: latency, FPS, parameters, MACs and peak memory, interleaved in one process."""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import add_config_arguments, console, load, parse_size, positive, save_json
from segkd.cli.eval import named


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("bench", help="time weights and ONNX files against each other")
    add_config_arguments(parser)
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help=".pth or .onnx (default: the config's student, untrained)"
    )
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="image size (default: the config's crop)")
    parser.add_argument("--batch", type=positive, default=1, help="images per call (default 1)")
    parser.add_argument("--repeats", type=positive, default=50, help="timed calls of each (default 50)")
    parser.add_argument("--threads", type=positive, default=2, help="CPU threads (default 2)")
    parser.add_argument("--json", metavar="FILE", help="write it as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Time everything, and print the table with the hardware under it."""
    from segkd.cli import measure
    from segkd.deploy.runtimes import Runtime, TorchRuntime
    from segkd.engine.build import build_student
    from segkd.engine.environment import environment
    from segkd.report.tables import comparison_table

    cfg = load(args)
    size = args.size or tuple(cfg["data"]["augment"]["crop_size"])
    models: dict[str, Runtime] = {
        n: measure.open_model(cfg, f, args.threads, True) for n, f in named(args.files).items()
    }
    if not models:
        models = {"student": TorchRuntime(build_student(cfg).to(measure.device()), threads=args.threads)}
    rows = [
        {"name": name, **row} for name, row in measure.speed(models, size, args.batch, max(args.repeats, 2)).items()
    ]
    measure.inherit_cost(rows)
    about = environment(cfg.get("seed"))
    console.print(comparison_table(rows, title=f"{size[0]}x{size[1]}, batch {args.batch}, {args.threads} threads"))
    for row in rows:
        console.print(f"  {row['name']}: peak memory of one call {row['peak_memory_mib']:.1f} MiB")
    console.print("  " + ", ".join(f"{k}: {v}" for k, v in about["hardware"].items()))
    save_json(args.json, {"batch": args.batch, "threads_asked": args.threads, "rows": rows, **about})
