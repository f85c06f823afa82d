"""``segkd quantize``: ONNX float32 -> int8, calibrated on training images."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segkd.cli.common import add_config_arguments, console, load, positive, save_json


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("quantize", help="make the int8 file from the ONNX file and training images")
    add_config_arguments(parser)
    parser.add_argument("onnx", metavar="ONNX", help="float32 file from `segkd export`")
    parser.add_argument("--out", metavar="FILE", help="int8 file (default: beside it, ..._int8.onnx)")
    parser.add_argument("--images", type=positive, default=16, help="calibration images from the training split (16)")
    parser.add_argument("--ops", choices=("conv", "all"), default="all", help="what to quantise (default all)")
    parser.add_argument("--method", default="percentile", help="percentile (default), minmax, moving_average, entropy")
    parser.add_argument("--threads", type=positive, default=2, help="CPU threads (default 2)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Quantise, and say what it cost."""
    from segkd.deploy.quantize import quantize_onnx
    from segkd.deploy.runtimes import OnnxRuntime

    cfg = load(args)
    source = Path(args.onnx)
    size = OnnxRuntime(source, args.threads).size
    out = Path(args.out) if args.out else source.with_name(source.stem + "_int8.onnx")
    with console.status(f"quantising {source}"):
        report = quantize_onnx(
            source, out, calibration_images(cfg, size, args.images), op_types=args.ops, method=args.method,
            max_images=args.images, threads=args.threads,
        )  # fmt: skip
    console.print(
        f"[bold]{out}[/]: {report.int8_bytes / 2**20:.2f} MiB (float32 {report.float_bytes / 2**20:.2f}), "
        f"{report.int8_ops} int8 and {report.float_ops} float32 convolutions and products; on {report.images} images "
        f"{100 * report.argmax_agreement:.2f} % of the pixels agree, logits are {report.sqnr_db:.1f} dB above the noise"
    )
    console.print(f"score it: segkd eval {args.config} {source} {out} --split val")
    save_json(args.json, report.as_dict())


def calibration_images(cfg: Mapping[str, Any], size: tuple[int, int], count: int) -> Iterator[Any]:
    """``count`` images (1, 3, H, W) uint8 spread over the training split, resized where they are not of that size."""
    import cv2
    import torch

    from segkd.engine.build import build_dataset

    dataset = build_dataset(cfg, "train")
    count = min(count, len(dataset))
    for k in range(count):
        image = dataset[k * len(dataset) // count].image
        if image.shape[:2] != size:
            image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        yield torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
