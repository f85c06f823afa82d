"""``segkd predict``: one image -> an overlay of its classes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segkd.cli.common import add_threads_argument, console, say, share
from segkd.cli.paths import existing_file, existing_onnx, writable_file
from segkd.errors import UserError

RELEASED = "models/fast_scnn_camvid/student_int8.onnx"


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("predict", help="segment one image with an ONNX file; writes an overlay PNG")
    parser.add_argument("image", metavar="IMAGE", help="an image file, of any size")
    parser.add_argument("--model", metavar="FILE", help="ONNX file (default: the released CamVid student, int8)")
    parser.add_argument(
        "--out", type=writable_file, metavar="FILE", help="overlay (default: beside the image, ..._segmented.png)"
    )
    parser.add_argument("--alpha", type=share, default=0.5, metavar="A", help="weight of the colours (default 0.5)")
    add_threads_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Segment, write the overlay, and print the share of each class."""
    import torch

    from segkd.datasets.files import read_image
    from segkd.deploy.runtimes import OnnxRuntime
    from segkd.report.pictures import overlay, write_png

    path = existing_file(args.image, "image file")
    out = args.out or writable_file(path.with_name(path.stem + "_segmented.png"))
    image = read_image(path)
    runtime = OnnxRuntime(existing_onnx(args.model) if args.model else released(), args.threads, resize=True)
    logits = runtime.predict(torch.from_numpy(image).permute(2, 0, 1)[None].contiguous())
    label = logits[0].argmax(0).numpy()
    names, palette = _classes(runtime)
    write_png(out, overlay(image, label, palette, args.alpha))
    shares = sorted(((100 * float((label == k).mean()), k) for k in range(len(names))), reverse=True)
    for percent, k in shares:
        if percent >= 0.05:
            red, green, blue = palette[k]
            if console.is_terminal:
                console.print("██", style=f"rgb({red},{green},{blue})", end=" ")
            say(f"{names[k]:<14} {percent:5.1f} %")
    say(f"wrote {out}")


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
