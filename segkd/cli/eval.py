"""``segkd eval``: mIoU of weights and of ONNX files, side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segkd.cli.common import add_config_arguments, console, load, parse_size, positive, save_json


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("eval", help="score weights (.pth) and ONNX files on a split, side by side")
    add_config_arguments(parser)
    parser.add_argument("files", metavar="FILE", nargs="+", help="student weights (.pth) or ONNX files (.onnx)")
    parser.add_argument("--split", default="val", help="train, val (default) or test")
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="size to time at (default: the first image's)")
    parser.add_argument("--no-speed", action="store_true", help="score only")
    parser.add_argument("--resize", action="store_true", help="let ONNX files take images of other sizes, resized")
    parser.add_argument("--threads", type=positive, default=2, help="CPU threads (default 2)")
    parser.add_argument("--json", metavar="FILE", help="write scores, speed and environment as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Score every file on the split; a table, and the IoU per class."""
    from segkd.cli import measure
    from segkd.engine.build import build_dataset
    from segkd.engine.environment import environment
    from segkd.report.tables import class_table, comparison_table

    cfg = load(args)
    dataset = build_dataset(cfg, args.split)
    models = {
        name: measure.open_model(cfg, file, args.threads, args.resize) for name, file in named(args.files).items()
    }
    for name, model in models.items():
        measure.check_class_count(model, dataset, name)
    image_size = dataset[0].label.shape
    size = args.size or (int(image_size[0]), int(image_size[1]))
    scores = measure.score(cfg, models, dataset)
    rows = [{"name": name, **measure.scores_row(s, dataset.class_names)} for name, s in scores.items()]
    if not args.no_speed:
        timed = measure.speed(models, size)
        for row in rows:
            row |= timed[row["name"]]
        measure.inherit_cost(rows)
    console.print(comparison_table(rows, title=f"{type(dataset).__name__} {args.split}, {len(dataset)} images"))
    console.print(class_table({name: s.iou for name, s in scores.items()}, dataset.class_names))
    save_json(args.json, {"split": args.split, "images": len(dataset), "rows": rows, **environment(cfg.get("seed"))})


def named(files: list[str]) -> dict[str, str]:
    """Files by their shortest distinct names."""
    names = [Path(f).name for f in files]
    return {name if names.count(name) == 1 else file: file for name, file in zip(names, files, strict=True)}
