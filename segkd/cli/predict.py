"""``segkd predict``: one image -> an overlay of its classes."""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import add_threads_argument, console, say, share
from segkd.errors import UserError
from segkd.files import existing_file, writable_file


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("predict", help="segment one image with an ONNX file; writes an overlay PNG")
    parser.add_argument("image", metavar="IMAGE", help="an image file, of any size")
    parser.add_argument(
        "--model", metavar="FILE|NAME", help="ONNX file, or a released network (default fast_scnn_camvid)"
    )
    parser.add_argument(
        "--out", type=writable_file, metavar="FILE", help="overlay (default: IMAGE_segmented.png in the working folder)"
    )
    parser.add_argument("--alpha", type=share, default=0.5, metavar="A", help="weight of the colours (default 0.5)")
    add_threads_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Segment, write the overlay, and print the share of each class."""
    from segkd.report.pictures import overlay, write_png
    from segkd.workbench.prediction import open_onnx, predict_images

    path = existing_file(args.image, "image file")
    if args.out and args.out.suffix.lower() != ".png":
        raise UserError(f"cannot write {args.out}: the overlay is a PNG; name it ....png")
    out = args.out or writable_file(f"{path.stem}_segmented.png")
    if out.exists() and out.samefile(path):
        raise UserError(f"cannot write {out}: it is the image itself; name another file")
    (seen,) = predict_images(open_onnx(args.model, args.threads), [path])
    write_png(out, overlay(seen.image, seen.label, seen.palette, args.alpha))
    for name, percent, (red, green, blue) in seen.shares():
        if percent >= 0.05:
            if console.is_terminal:
                console.print("██", style=f"rgb({red},{green},{blue})", end=" ")
            say(f"{name:<14} {percent:5.1f} %")
    say(f"wrote {out}")
