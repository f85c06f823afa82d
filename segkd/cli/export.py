"""``segkd export``: the student alone, as one ONNX file of logits or of labels."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
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
    say_columns,
)
from segkd.errors import UserError
from segkd.files import writable_onnx

TAILS = ("auto", "full", "half", "quarter", "native")


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "export",
        help="write the student as ONNX, checked against torch",
        description="The file takes images and gives logits, or, with --output labels, the class of each pixel as "
        "uint8. Where the strongest class is taken is the tail: at the image's size (full), at the half or a quarter "
        "of its sides, or at the logits' own size (native), from where the classes are repeated. auto scores each on "
        "the split, times it here, and takes the fastest within 0.1 mIoU of full.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--weights", metavar="FILE", help="student weights (.pth; default: a run folder's best student, a release's)"
    )
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--size", type=parse_size, metavar="HxW", help="image size; one file per size")
    size.add_argument("--any-size", action="store_true", help="images of any size, where the network allows it exactly")
    parser.add_argument(
        "--out",
        type=writable_onnx,
        metavar="FILE",
        help="ONNX file (default: beside the weights, a release's here; named by the size)",
    )
    parser.add_argument("--output", choices=("logits", "labels"), default="logits", help="what it gives (logits)")
    parser.add_argument("--tail", choices=TAILS, default="auto", help="of labels: where they are taken (auto)")
    parser.add_argument("--split", default="val", help="of --tail auto: train, val (default) or test")
    parser.add_argument("--images", type=positive, metavar="N", help="of --tail auto: score so many images (all)")
    parser.add_argument("--batch", type=positive, metavar="N", help="images per call (default: any number)")
    parser.add_argument("--opset", type=positive, default=20, metavar="N", help="of ONNX, 18 to 23 (default 20)")
    parser.add_argument("--no-preprocess", action="store_true", help="leave preprocessing out of the graph")
    parser.add_argument("--no-merge", action="store_true", help="leave branches (RepVGG, MobileOne) as they trained")
    add_threads_argument(parser)
    add_json_argument(parser, "the report")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Export behind the parity gate; then, for labels, choose the tail and write it."""
    from segkd.workbench.runs import weights_of

    cfg = load(args)
    if args.output == "logits" and (args.tail != "auto" or args.images):
        raise UserError("--tail and --images are for --output labels")
    if args.output == "labels" and args.any_size:
        raise UserError("labels are made by a file for one size: give --size HxW")
    out = args.out or _default_out(args)
    args.weights = args.weights or weights_of(args.config)
    if args.output == "logits":
        save_json(args.json, _logits(args, cfg, out).as_dict())
        return
    weights, (height, width) = Path(args.weights), args.size
    out = out or writable_onnx(weights.with_name(f"{weights.stem}_{height}x{width}_labels.onnx"))
    with tempfile.TemporaryDirectory(prefix="segkd-") as folder:
        report = _logits(args, cfg, Path(folder) / "logits.onnx", str(out))
        tail, rows = _labels(args, cfg, Path(report.path), out)
    say(f"labels, tail {tail}", style="bold")
    save_json(args.json, {**report.as_dict(), "path": str(out), "output": "labels", "tail": tail, "tails": rows})


def _default_out(args: argparse.Namespace) -> Path | None:
    """A file in the working directory for a release's own weights; for others None: beside them."""
    from segkd.workbench.zoo import releases

    if args.weights or args.config not in releases():
        return None
    size = "any" if args.any_size else "{}x{}".format(*args.size)
    return writable_onnx(f"{args.config}_{size}{'_labels' if args.output == 'labels' else ''}.onnx")


def _logits(args: argparse.Namespace, cfg: Any, out: Path | None, shown: str | None = None) -> Any:
    """Write the file of logits, and say what is in it."""
    from segkd.workbench.deployment import export_run
    from segkd.workbench.runs import crop_size

    with console.status("exporting"):
        report = export_run(
            cfg,
            args.weights,
            crop_size(cfg) if args.any_size else args.size,
            out,
            include_preprocess=not args.no_preprocess,
            any_size=args.any_size,
            batch=args.batch,
            opset=args.opset,
            merge=not args.no_merge,
        )
    say(shown or report.path, style="bold")
    size = "any size" if report.size is None else f"{report.size[0]}x{report.size[1]} (HxW)"
    batch = f"batch {report.batch}" if report.batch else "any batch"
    say(f"{report.file_bytes / 2**20:.2f} MiB, opset {report.opset}, for images of {size}, {batch}")
    if report.fused:
        say(f"{report.fused} layers with branches were merged into one convolution each")
    if report.trained:
        say(f"its student was trained for int8: `segkd quantize --route {report.trained}` rounds as it learned")
    for parity, (count, height, width) in zip(report.parity, report.compared, strict=True):
        say(
            f"  batch {count} of {height}x{width}: logits differ from torch's by {parity.relative_difference:.1e} of "
            f"the largest, {100 * parity.argmax_agreement:.3f} % of the pixels agree"
        )
        if parity.rounding:
            say(f"  float32 alone moves the network's own logits by {parity.rounding:.1e}; the file is as near")
        if parity.compared < 1:
            say(f"  compared in {100 * parity.compared:.0f} % of them: the rest may be changed by rounding alone")
    return report


def _labels(args: argparse.Namespace, cfg: Any, source: Path, out: Path) -> Any:
    """Write the file of labels, and show the scores and times by which its tail was chosen."""
    from segkd.training.build import build_dataset
    from segkd.workbench.tails import write_labels

    dataset = build_dataset(cfg, args.split) if args.tail == "auto" else None
    with following() as progress:
        tail, rows = write_labels(
            source, out, args.tail, dataset, images=args.images, threads=args.threads, progress=progress
        )
    if rows:
        cells = [[r["tail"], f"{r['miou']:.2f}" if "miou" in r else "-", f"{r['latency_ms']:.1f}"] for r in rows]
        say_columns([["tail", f"mIoU {args.split} (%)", "ms to labels"], *cells], right=(1, 2), indent="  ")
    return tail, rows
