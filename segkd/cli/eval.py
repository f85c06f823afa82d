"""``segkd eval``: mIoU and speed of weights and of ONNX files, side by side."""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import add_config_arguments, add_json_argument, add_threads_argument, load, parse_size, save_json
from segkd.cli.paths import named


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("eval", help="score weights (.pth) and ONNX files on a split, side by side")
    add_config_arguments(parser)
    parser.add_argument("files", metavar="FILE", nargs="+", help="student weights (.pth) or ONNX files (.onnx)")
    parser.add_argument("--teacher", action="store_true", help="score the config's teacher, too")
    parser.add_argument("--split", default="val", help="train, val (default) or test")
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="size to time at (default: the first image's)")
    parser.add_argument("--no-speed", action="store_true", help="score only")
    parser.add_argument("--resize", action="store_true", help="let ONNX files take images of other sizes, resized")
    parser.add_argument(
        "--count-void", action="store_true", help="count predictions on void pixels as false positives (default: not)"
    )
    parser.add_argument("--void-output", action="store_true", help="the last output is void, and may win")
    add_threads_argument(parser)
    add_json_argument(parser, "scores, speed and environment")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Score every file on the split; a table, and the IoU per class."""
    from segkd.cli import measure
    from segkd.training.build import build_dataset
    from segkd.training.environment import environment

    cfg = load(args)
    files = named(args.files)
    dataset = build_dataset(cfg, args.split)
    models = {name: measure.open_model(cfg, file, args.threads, args.resize) for name, file in files.items()}
    if args.teacher:
        models = {"teacher": measure.open_teacher(cfg, args.threads)} | models
    size = args.size or measure.image_size(dataset)
    timed_at = None if args.no_speed else size
    void = {"count_void": args.count_void, "void_output": args.void_output}
    rows = measure.compare(cfg, models, dataset, args.split, timed_at, **void)
    scored = {"split": args.split, "images": len(dataset), **void}
    save_json(args.json, {**scored, "rows": rows, **environment(cfg.get("seed"))})
