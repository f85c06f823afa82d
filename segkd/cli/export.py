"""``segkd export``: the student alone, as one ONNX file for one image size."""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import add_config_arguments, add_json_argument, console, load, parse_size, save_json, say
from segkd.files import writable_onnx


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("export", help="write the student as ONNX, checked against torch")
    add_config_arguments(parser)
    parser.add_argument("--weights", required=True, metavar="FILE", help="student weights (.pth)")
    parser.add_argument("--size", type=parse_size, required=True, metavar="HxW", help="image size; one file per size")
    parser.add_argument(
        "--out", type=writable_onnx, metavar="FILE", help="ONNX file (default: beside the weights, named by the size)"
    )
    parser.add_argument("--no-preprocess", action="store_true", help="leave preprocessing out of the graph")
    add_json_argument(parser, "the report")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Export behind the parity gate."""
    from segkd.workbench.deployment import export_run

    cfg, (height, width) = load(args), args.size
    with console.status("exporting"):
        report = export_run(cfg, args.weights, args.size, args.out, include_preprocess=not args.no_preprocess)
    say(report.path, style="bold")
    say(f"{report.file_bytes / 2**20:.2f} MiB, opset {report.opset}, for images of {height}x{width} (HxW), any batch")
    for parity in report.parity:
        say(
            f"  batch {parity.batch}: logits differ from torch's by {parity.relative_difference:.1e} of the largest, "
            f"{100 * parity.argmax_agreement:.3f} % of the pixels agree"
        )
        if parity.rounding:
            say(f"  float32 alone moves the network's own logits by {parity.rounding:.1e}; the file is as near")
        if parity.compared < 1:
            say(f"  compared in {100 * parity.compared:.0f} % of them: the rest may be changed by rounding alone")
    save_json(args.json, report.as_dict())
