"""``segkd eval``: mIoU and speed of weights and of ONNX files, side by side."""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import (
    add_config_arguments,
    add_json_argument,
    add_threads_argument,
    following,
    load,
    parse_size,
    save_json,
    say_comparison,
    take_files,
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("eval", help="score weights (.pth) and ONNX files on a split, side by side")
    add_config_arguments(parser)
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="weights (.pth) or ONNX files (default: a run folder's best student, a release's files)",
    )
    parser.add_argument("--teacher", dest="with_teacher", action="store_true", help="score the config's teacher, too")
    parser.add_argument("--split", default="val", help="train, val (default) or test")
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="size to time at (default: the first image's)")
    parser.add_argument("--no-speed", action="store_true", help="score only")
    parser.add_argument("--resize", action="store_true", help="let ONNX files take images of other sizes, resized")
    parser.add_argument(
        "--count-void", action="store_true", help="count predictions on void pixels as false positives (default: not)"
    )
    parser.add_argument("--void-output", action="store_true", help="the last output is void, and may win")
    parser.add_argument("--flip", action="store_true", help="average over each image and its mirror image")
    parser.add_argument("--scales", type=factors, default=(1.0,), metavar="S,S", help="average over sizes: 0.5,1,1.5")
    parser.add_argument("--window", type=parse_size, metavar="HxW", help="average over windows of this size")
    add_threads_argument(parser)
    add_json_argument(parser, "scores, speed and environment")
    parser.set_defaults(run=run)


def factors(text: str) -> tuple[float, ...]:
    """Numbers above 0, with commas between them."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (0.0,)
    if not all(0 < value < 100 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} are no factors of the image's size; write e.g. 0.5,1,1.5")
    return values


def run(args: argparse.Namespace) -> None:
    """Score every file on the split; a table, and the IoU per class."""
    from segkd.training.build import build_dataset
    from segkd.training.environment import environment
    from segkd.workbench.comparison import evaluate_models, image_size
    from segkd.workbench.runs import open_models, open_teacher, students_of

    take_files(args)
    cfg = load(args)
    dataset = build_dataset(cfg, args.split)
    models = open_models(cfg, args.files or students_of(args.config), args.threads, args.resize)
    if args.with_teacher:
        models = {"teacher": open_teacher(cfg, args.threads)} | models
    timed_at = None if args.no_speed else args.size or image_size(dataset)
    void = {"count_void": args.count_void, "void_output": args.void_output}
    views = {"flip": args.flip, "scales": args.scales, "window": args.window}
    with following() as progress:
        rows = evaluate_models(
            models, dataset, timed_at, **void, views=views, workers=cfg["data"].get("workers", 0), progress=progress
        )
    say_comparison(rows, f"{type(dataset).__name__} {args.split}, {len(dataset)} images:")
    scored = {"split": args.split, "images": len(dataset), **void, **views}
    save_json(args.json, {**scored, "rows": rows, **environment(cfg.get("seed"))})
