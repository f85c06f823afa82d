"""``segkd quantize``: ONNX float32 -> int8, calibrated on training images."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkd.cli.common import (
    add_config_arguments,
    add_json_argument,
    add_threads_argument,
    console,
    load,
    positive,
    save_json,
    say,
)
from segkd.cli.paths import existing_onnx, writable_onnx
from segkd.errors import UserError

if TYPE_CHECKING:
    from segkd.deploy.quantize import QuantizeReport
    from segkd.deploy.runtimes import Runtime


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("quantize", help="make the int8 file from the ONNX file and training images")
    add_config_arguments(parser)
    parser.add_argument("onnx", metavar="ONNX", help="float32 file from `segkd export`")
    parser.add_argument(
        "--out", type=writable_onnx, metavar="FILE", help="int8 file (default: beside it, ..._int8.onnx)"
    )
    parser.add_argument(
        "--images", type=positive, default=16, metavar="N", help="calibration images from the training split (16)"
    )
    parser.add_argument("--ops", choices=("conv", "all"), default="all", help="what to quantise (default all)")
    parser.add_argument("--method", default="percentile", help="percentile (default), minmax, moving_average, entropy")
    add_threads_argument(parser)
    parser.add_argument("--split", help="then score and time the files side by side on train, val or test")
    parser.add_argument("--weights", metavar="FILE", help="with --split: the student's weights (.pth), for torch's row")
    parser.add_argument("--resize", action="store_true", help="with --split: images of other sizes are resized")
    add_json_argument(parser, "the report")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Quantise, say what it cost, and compare if asked to."""
    from segkd.deploy.quantize import quantize_onnx
    from segkd.deploy.runtimes import OnnxRuntime
    from segkd.training.environment import environment

    if args.weights and not args.split:
        raise UserError("--weights is for the comparison: add --split val (or train, test)")
    cfg = load(args)
    source = existing_onnx(args.onnx)
    out = args.out or writable_onnx(source.with_name(source.stem + "_int8.onnx"))
    if out.resolve() == source.resolve():
        raise UserError(f"--out {out} is the float32 file itself; choose another name")
    runtime = OnnxRuntime(source, args.threads, args.resize)
    _check_source(source, runtime, cfg)
    models = _prepare(args, cfg, runtime)
    with console.status(f"quantising {source}"):
        report = quantize_onnx(
            source, out, calibration_images(cfg, runtime.size, args.images), op_types=args.ops, method=args.method,
            max_images=args.images, threads=args.threads,
        )  # fmt: skip
    _tell(report)
    content = report.as_dict()
    if args.split:
        content |= {"split": args.split, "rows": _compare(args, cfg, models | {"ONNX float32": runtime}, out)}
    else:
        say(f"score it: segkd quantize ... --weights FILE --split val, or segkd eval {args.config} {source} {out}")
    save_json(args.json, content | environment(cfg.get("seed")))


def _check_source(source: Path, runtime: Runtime, cfg: Mapping[str, Any]) -> None:
    """A float32 file, for the classes of the config's data set."""
    import onnx

    from segkd.training.build import class_names

    if any(node.op_type == "QuantizeLinear" for node in onnx.load(str(source)).graph.node):
        raise UserError(f"{source} is int8 already; give the float32 file that `segkd export` wrote")
    count = len(class_names(cfg)[0])
    if runtime.num_classes != count:
        raise UserError(f"{source} predicts {runtime.num_classes} classes, but the config's data set has {count}")


def _prepare(args: argparse.Namespace, cfg: Mapping[str, Any], runtime: Runtime) -> dict[str, Runtime]:
    """Torch's model for the comparison, if asked for; everything that can be wrong with it is found here, first."""
    from segkd.cli import measure
    from segkd.training.build import build_dataset

    models: dict[str, Runtime] = {}
    if args.weights:
        models["torch"] = measure.open_model(cfg, args.weights, args.threads)
    if args.split:
        measure.check_fit({**models, Path(args.onnx).name: runtime}, build_dataset(cfg, args.split))
    return models


def _tell(report: QuantizeReport) -> None:
    say(report.path, style="bold")
    say(
        f"{report.int8_bytes / 2**20:.2f} MiB (float32: {report.float_bytes / 2**20:.2f}), {report.int8_ops} nodes in "
        f"int8, {report.float_ops} convolutions and products left in float32"
    )
    say(
        f"on {report.images} calibration images {100 * report.argmax_agreement:.2f} % of the pixels keep their class, "
        f"logits are {report.sqnr_db:.1f} dB above the noise"
    )


def _compare(args: argparse.Namespace, cfg: Mapping[str, Any], models: dict[str, Runtime], out: Path) -> Any:
    """mIoU and speed of torch, ONNX float32 and int8 side by side."""
    from segkd.cli import measure
    from segkd.training.build import build_dataset

    dataset = build_dataset(cfg, args.split)
    models["ONNX int8"] = measure.open_model(cfg, out, args.threads, args.resize)
    return measure.compare(cfg, models, dataset, args.split, models["ONNX int8"].size)


def calibration_images(cfg: Mapping[str, Any], size: tuple[int, int], count: int) -> Iterator[Any]:
    """``count`` images (1, 3, H, W) uint8 spread over the training split, resized where they are not of that size."""
    import cv2
    import torch

    from segkd.training.build import build_dataset

    dataset = build_dataset(cfg, "train")
    count = min(count, len(dataset))
    for k in range(count):
        image = dataset[k * len(dataset) // count].image
        if image.shape[:2] != size:
            image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        yield torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
