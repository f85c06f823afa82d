"""``segkd quantize``: ONNX float32 -> int8, calibrated on training images."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkd.cli.common import (
    add_config_arguments,
    add_json_argument,
    add_threads_argument,
    config_words,
    following,
    load,
    parse_size,
    positive,
    save_json,
    say,
    say_columns,
    say_comparison,
    words,
)
from segkd.errors import UserError
from segkd.files import writable_file

if TYPE_CHECKING:
    from segkd.workbench.deployment import QuantizeReport


SHOWN = 10  # layers in the table


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("quantize", help="make the int8 file from the ONNX file and training images")
    add_config_arguments(parser)
    parser.add_argument(
        "onnx", metavar="ONNX", help="float32 file from `segkd export`; of --route executorch student weights (.pth)"
    )
    parser.add_argument(
        "--out", type=writable_file, metavar="FILE", help="int8 file (default: beside it, ..._int8.onnx)"
    )
    parser.add_argument(
        "--images", type=positive, default=16, metavar="N", help="calibration images from the training split (16)"
    )
    parser.add_argument(
        "--route",
        default="onnxruntime",
        metavar="NAME",
        help="for what: onnxruntime (default), openvino (.xml, by NNCF), tensorrt (ONNX with zero points of 0), "
        "executorch (.pte, for phones)",
    )
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="of --route executorch: the images' size")
    parser.add_argument("--ops", choices=("conv", "all"), help="what to quantise (default all; tensorrt: conv)")
    parser.add_argument("--method", help="percentile (default), minmax, moving_average, entropy")
    parser.add_argument("--preset", choices=("mixed", "performance"), help="of --route openvino (default mixed)")
    parser.add_argument(
        "--weight-bits",
        type=int,
        choices=(7, 8),
        help="of onnxruntime, 7 (default): right on every CPU; 8: for x64 with VNNI, and Arm; sums saturate on others",
    )
    parser.add_argument(
        "--improve",
        type=words,
        default=(),
        metavar="WAY,WAY",
        help="for accuracy: equalize (like ranges in neighbours), bias (right means), adaround (chosen roundings)",
    )
    parser.add_argument(
        "--keep-float",
        metavar="auto|N|NODE,NODE",
        help="layers that stay float: named nodes, the N that lose most, or as many as --max-drop needs (auto)",
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.5,
        metavar="X",
        help="of --keep-float auto: mIoU that the file may lose on the val split (0.5)",
    )
    parser.add_argument(
        "--sensitivity", action="store_true", help="say what each layer loses alone in int8; writes a PNG beside it"
    )
    add_threads_argument(parser)
    parser.add_argument("--split", help="then score and time the files side by side on train, val or test")
    parser.add_argument("--weights", metavar="FILE", help="with --split: the student's weights (.pth), for torch's row")
    parser.add_argument("--resize", action="store_true", help="with --split: images of other sizes are resized")
    add_json_argument(parser, "the report")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Quantise, say what it cost, and compare if asked to."""
    from segkd.training.environment import environment

    if args.weights and not args.split:
        raise UserError("--weights is for the comparison: add --split val (or train, test)")
    if (args.route == "executorch") != (args.size is not None):
        raise UserError("--size HxW belongs to --route executorch, and must be there; an ONNX file has its own")
    cfg = load(args)
    if args.route == "executorch":
        _for_phones(args, cfg)
        return
    compared = _compared(args, cfg) if args.split else {}
    report, found = _quantize(args, cfg)
    _tell(report)
    content = report.as_dict() | found
    if args.split:
        content |= {"split": args.split, "rows": _compare(args, cfg, compared | {"ONNX int8": report.path})}
    else:
        files = f"{args.onnx} {report.path}"
        say(f"score it: segkd quantize ... --weights FILE --split val, or segkd eval {config_words(args)} {files}")
    save_json(args.json, content | environment(cfg.get("seed")))


def _for_phones(args: argparse.Namespace, cfg: Mapping[str, Any]) -> None:
    """Make the file of ExecuTorch, and compare it with torch if asked to."""
    from segkd.training.environment import environment
    from segkd.workbench.deployment import quantize_weights

    flags = ("method", "preset", "weight_bits", "improve", "keep_float", "sensitivity", "weights")
    if given := next((flag for flag in flags if getattr(args, flag)), None):
        raise UserError(f"--{given.replace('_', '-')} is not for --route executorch, which makes its file of weights")
    with following() as progress:
        progress(f"quantising {args.onnx}", 0, None)
        shared = dict(op_types=args.ops, images=args.images, threads=args.threads)
        report = quantize_weights(cfg, args.onnx, args.size, args.out, **shared)
    _tell(report)
    content = report.as_dict()
    if args.split:
        files = {"torch": args.onnx, "ExecuTorch int8": report.path}
        content |= {"split": args.split, "rows": _compare(args, cfg, files)}
    save_json(args.json, content | environment(cfg.get("seed")))


def _quantize(args: argparse.Namespace, cfg: Mapping[str, Any]) -> tuple[QuantizeReport, dict[str, Any]]:
    """Quantise as asked; the report, and what was measured of layers and tries on the way."""
    from segkd.training.build import build_dataset, class_names
    from segkd.workbench.accuracy import measure_layers, quantize_within, worst
    from segkd.workbench.deployment import open_float32, quantize_file

    open_float32(args.onnx, len(class_names(cfg)[0]))
    training = build_dataset(cfg, "train")
    choices = {name: getattr(args, name) for name in ("method", "preset", "weight_bits", "improve")} | {
        "op_types": args.ops
    }
    shared = dict(images=args.images, threads=args.threads)
    losses: Sequence[Any] = ()
    asked = args.keep_float or ""
    with following() as progress:
        if asked == "auto":
            validation = build_dataset(cfg, "val")
            limits = dict(max_drop=args.max_drop, route=args.route, progress=progress)
            made = quantize_within(args.onnx, training, validation, args.out, **limits, **shared, **choices)
            report, losses = made.report, made.losses
            found: dict[str, Any] = {"tries": made.rows, "kept": made.kept}
        else:
            if asked.isdigit() or args.sensitivity:
                losses = measure_layers(args.onnx, training, progress=progress, **shared)
            kept = worst(losses, int(asked)) if asked.isdigit() else words(asked)
            progress(f"quantising {args.onnx}", 0, None)
            shared |= dict(route=args.route, keep_float=kept)
            report = quantize_file(args.onnx, training, args.out, **shared, **choices)
            found = {"kept": kept}
    for row in found.get("tries", ()):
        say(f"{row['kept']} layers in float: val mIoU {row['miou']:.2f}, {row['drop']:.2f} behind the float file")
    if losses:
        found["layers"] = [loss._asdict() for loss in losses]
        _show_layers(losses, report.path, args.sensitivity)
    return report, found


def _show_layers(losses: Sequence[Any], path: str, picture: bool) -> None:
    """The layers that lose most, and all of them in a picture beside the file."""
    from segkd.report.layers import draw_layers
    from segkd.report.pictures import write_png

    worst = losses[:SHOWN]
    say_columns(
        [["layer", "node", "dB alone in int8"], *([x.layer, x.node, f"{x.sqnr_db:.1f}"] for x in worst)], right=(2,)
    )
    if picture:
        file = Path(path).with_name(f"{Path(path).stem}_layers.png")
        write_png(file, draw_layers([(x.layer, x.sqnr_db) for x in losses]))
        say(f"wrote {file}")


def _compared(args: argparse.Namespace, cfg: Mapping[str, Any]) -> dict[str, str]:
    """The files to compare the int8 file with; everything that can be wrong with them is found here, first."""
    from segkd.training.build import build_dataset
    from segkd.workbench.comparison import check_fit
    from segkd.workbench.runs import open_model

    files = ({"torch": args.weights} if args.weights else {}) | {"ONNX float32": args.onnx}
    models = {name: open_model(cfg, file, args.threads, args.resize) for name, file in files.items()}
    check_fit(models, build_dataset(cfg, args.split))
    return files


def _tell(report: QuantizeReport) -> None:
    say(report.path, style="bold")
    say(
        f"{report.int8_bytes / 2**20:.2f} MiB (float32: {report.float_bytes / 2**20:.2f}), {report.int8_ops} nodes in "
        f"int8, {report.float_ops} convolutions and products left in float32"
    )
    noise = "" if report.sqnr_db is None else f", logits are {report.sqnr_db:.1f} dB above the noise"
    kept = f"{100 * report.argmax_agreement:.2f} % of the pixels keep their class"
    say(f"on {report.images} calibration images {kept}{noise}")


def _compare(args: argparse.Namespace, cfg: Mapping[str, Any], files: Mapping[str, str]) -> list[dict[str, Any]]:
    """mIoU and speed of torch, ONNX float32 and int8 side by side."""
    from segkd.training.build import build_dataset
    from segkd.workbench.comparison import evaluate_models
    from segkd.workbench.runs import open_model
    from segkd.workbench.timing import common_size

    dataset = build_dataset(cfg, args.split)
    models = {name: open_model(cfg, file, args.threads, args.resize) for name, file in files.items()}
    with following() as progress:
        rows = evaluate_models(
            models, dataset, common_size(models), workers=cfg["data"].get("workers", 0), progress=progress
        )
    say_comparison(rows, f"{type(dataset).__name__} {args.split}, {len(dataset)} images:")
    return rows
