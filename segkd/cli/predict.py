"""``segkd predict``: one image -> an overlay of its classes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segkd.cli.common import console, positive
from segkd.errors import UserError

RELEASED = "models/fast_scnn_camvid/student_int8.onnx"


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("predict", help="segment one image with an ONNX file; writes an overlay PNG")
    parser.add_argument("image", metavar="IMAGE", help="an image file")
    parser.add_argument("--model", metavar="FILE", help="ONNX file (default: the released CamVid student, int8)")
    parser.add_argument("--out", metavar="FILE", help="overlay (default: beside the image, ..._segmented.png)")
    parser.add_argument("--alpha", type=float, default=0.5, help="weight of the colours (default 0.5)")
    parser.add_argument("--threads", type=positive, default=2, help="CPU threads (default 2)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Segment, write the overlay, and print the share of each class."""
    import torch

    from segkd.datasets.files import read_image
    from segkd.deploy.runtimes import OnnxRuntime
    from segkd.report.pictures import overlay, write_png

    image = read_image(Path(args.image))
    runtime = OnnxRuntime(args.model or released(), args.threads, resize=True)
    logits = runtime.predict(torch.from_numpy(image).permute(2, 0, 1)[None].contiguous())
    label = logits[0].argmax(0).numpy()
    names, palette = _classes(runtime)
    out = Path(args.out) if args.out else Path(args.image).with_name(Path(args.image).stem + "_segmented.png")
    write_png(out, overlay(image, label, palette, args.alpha))
    for k, name in enumerate(names):
        share = 100 * float((label == k).mean())
        if share >= 0.05:
            red, green, blue = palette[k]
            console.print(f"[rgb({red},{green},{blue})]██[/] {name:<14} {share:5.1f} %")
    console.print(f"wrote {out}")


def released() -> Path:
    """The released student in a checkout."""
    import segkd

    path = Path(segkd.__file__).resolve().parents[1] / RELEASED
    if not path.is_file():
        raise UserError(
            f"no --model given, and the released student {RELEASED} is only in a checkout; name an ONNX file"
        )
    return path


def _classes(runtime: Any) -> tuple[list[str], list[tuple[int, int, int]]]:
    names = runtime.metadata.get("class_names") or [f"class {k}" for k in range(runtime.num_classes)]
    palette = runtime.metadata.get("palette") or [
        ((37 * k + 90) % 256, (91 * k + 30) % 256, (151 * k + 60) % 256) for k in range(runtime.num_classes)
    ]
    return list(names), [tuple(c) for c in palette]
