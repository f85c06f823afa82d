"""``segkd eval``: mIoU and speed of weights and of ONNX files, side by side."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from segkd.cli.common import (
    add_config_arguments,
    add_json_argument,
    add_threads_argument,
    following,
    load,
    parse_size,
    positive,
    save_json,
    say,
    say_comparison,
    take_files,
)
from segkd.errors import UserError
from segkd.files import writable_folder

if TYPE_CHECKING:
    from segkd.workbench.scoring import Wanted


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
    add_view_arguments(parser.add_argument_group("views", "how each image is looked at (default: as the config says)"))
    add_score_arguments(parser.add_argument_group("scores"))
    add_threads_argument(parser)
    add_json_argument(parser, "scores, speed and environment")
    parser.set_defaults(run=run)


def add_view_arguments(parser: argparse._ActionsContainer) -> None:
    """Add --flip, --scales, --window and --stride."""
    parser.add_argument(
        "--flip", action="store_true", default=None, help="average over each image and its mirror image"
    )
    parser.add_argument("--scales", type=factors, metavar="S,S", help="average over sizes: 0.5,1,1.5")
    parser.add_argument("--window", type=parse_size, metavar="HxW", help="average over windows of this size")
    parser.add_argument(
        "--stride", type=parse_stride, metavar="HxW", help="how far windows are moved (default: two thirds of them)"
    )


def add_score_arguments(parser: argparse._ActionsContainer) -> None:
    """Add --metrics, --interval, --out and --worst."""
    parser.add_argument(
        "--metrics",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="NAME,NAME",
        help="beside mIoU: macc, aacc, fwiou, precision, recall, f1, boundary_iou, boundary_f1, ece; "
        "of cityscapes category_iou, iiou, category_iiou",
    )
    parser.add_argument(
        "--interval",
        action="store_true",
        help="95 %% intervals of mIoU over images, and of every two models' difference",
    )
    parser.add_argument(
        "--out",
        type=writable_folder,
        metavar="DIR",
        help="write each model's confusion matrix (PNG, CSV), the scores of each image (CSV) and the worst images",
    )
    parser.add_argument("--worst", type=positive, metavar="N", help="how many images are drawn in --out (default 8)")


def parse_stride(text: str) -> tuple[int, int]:
    """A size ``HxW`` in pixels, at least 1 each, as (H, W)."""
    height, sign, width = text.lower().partition("x")
    if not sign or not height.isdecimal() or not width.isdecimal() or min(int(height), int(width)) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no stride; write HxW in pixels, e.g. 683x683")
    return int(height), int(width)


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
    from segkd.report.scoring import difference_lines, write_scores
    from segkd.training.build import build_dataset
    from segkd.training.environment import environment
    from segkd.workbench.comparison import evaluate_in_detail, image_size
    from segkd.workbench.runs import open_models, open_teacher, students_of

    take_files(args)
    cfg = load(args)
    wanted = _wanted(args, cfg)
    dataset = build_dataset(cfg, args.split)
    wanted.made(dataset)
    models = open_models(cfg, args.files or students_of(args.config), args.threads, args.resize)
    if args.with_teacher:
        models = {"teacher": open_teacher(cfg, args.threads)} | models
    timed_at = None if args.no_speed else args.size or image_size(dataset)
    with following() as progress:
        found, differences = evaluate_in_detail(
            models, dataset, timed_at, wanted, cfg["data"].get("workers", 0), progress
        )
    rows = [one.row for one in found]
    say_comparison(rows, f"{type(dataset).__name__} {args.split}, {len(dataset)} images:")
    for line in difference_lines(differences):
        say(line)
    if args.out is not None:
        for folder in write_scores(args.out, found, dataset.class_names, dataset.palette):
            say(f"wrote {folder}")
    views = {key: getattr(wanted.views, key) for key in ("flip", "scales", "window", "stride")}
    scored = {"split": args.split, "images": len(dataset), **views, "differences": differences}
    scored |= {"count_void": args.count_void, "void_output": args.void_output}
    save_json(args.json, {**scored, "rows": rows, **environment(cfg.get("seed"))})


def _wanted(args: argparse.Namespace, cfg: dict[str, Any]) -> Wanted:
    """What the arguments ask for; of views that they don't name, what the config says."""
    from segkd.training.config import Config
    from segkd.workbench.scoring import Wanted

    if args.worst is not None and args.out is None:
        raise UserError("--worst says how many images are drawn in a folder: name it, --out DIR")
    return Wanted(
        Config.of(cfg).evaluation.views(args.flip, args.scales, args.window, args.stride),
        args.metrics,
        args.count_void,
        args.void_output,
        args.interval,
        (args.worst or 8) if args.out is not None else 0,
    )
