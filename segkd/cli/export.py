"""``segkd export``: the student alone, as one ONNX file for one image size."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segkd.cli.common import add_config_arguments, console, load, parse_size, save_json


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("export", help="write the student as ONNX, checked against torch")
    add_config_arguments(parser)
    parser.add_argument("--weights", required=True, metavar="FILE", help="student weights (.pth)")
    parser.add_argument("--size", type=parse_size, required=True, metavar="HxW", help="image size; one file per size")
    parser.add_argument("--out", metavar="FILE", help="ONNX file (default: beside the weights, named by the size)")
    parser.add_argument("--no-preprocess", action="store_true", help="leave preprocessing out of the graph")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Export behind the parity gate."""
    from segkd.deploy.onnx import export_onnx
    from segkd.engine.build import build_student, class_names
    from segkd.models import load_weights

    cfg = load(args)
    network = build_student(cfg)
    load_weights(network, args.weights)
    height, width = args.size
    out = (
        Path(args.out) if args.out else Path(args.weights).with_name(f"{Path(args.weights).stem}_{height}x{width}.onnx")
    )
    names, palette = class_names(cfg)
    with console.status(f"exporting {out}"):
        report = export_onnx(
            network,
            out,
            (height, width),
            include_preprocess=not args.no_preprocess,
            class_names=names,
            extra={"palette": palette},
        )
    console.print(
        f"[bold]{out}[/]: {report.file_bytes / 2**20:.2f} MiB, opset {report.opset}, batch free, {height}x{width}"
    )
    for parity in report.parity:
        console.print(
            f"  batch {parity.batch}: logits differ by {parity.relative_difference:.1e} of the largest, "
            f"{100 * parity.argmax_agreement:.3f} % of the pixels agree"
        )
    save_json(args.json, report.as_dict())
