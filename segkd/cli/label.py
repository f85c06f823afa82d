"""``segkd label``: a teacher's answers for a folder of images, as label maps to train on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segkd.cli.common import add_json_argument, following, positive, save_json, say, say_columns, share, white
from segkd.files import writable_folder


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "label",
        help="write a teacher's answers for a folder of images: label maps, how sure it is, soft answers",
        description="Writes DIR/labels, DIR/confidence, DIR/classes.txt and DIR/pairs.csv, which names the images "
        "where they are: `segkd train --data DIR` trains on it. Started again, it goes on where it stopped.",
    )
    parser.add_argument("--teacher", required=True, metavar="TEACHER", help="a run folder, a file, or KIND:NAME@FILE")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of the images")
    parser.add_argument("--out", required=True, type=writable_folder, metavar="DIR", help="folder of what is written")
    parser.add_argument(
        "--min-confidence", type=share, default=0.0, metavar="P", help="void where it is less sure (default 0: nowhere)"
    )
    parser.add_argument(
        "--top", type=positive, default=0, metavar="K", help="also DIR/soft: the K likeliest classes with probabilities"
    )
    parser.add_argument(
        "--stride", type=positive, default=4, metavar="N", help="of --top: side of a cell in pixels (default 4)"
    )
    parser.add_argument("--as-stored", action="store_true", help="read images without turning them as their tags say")
    parser.add_argument(
        "--white", type=white, metavar="V", help="the value that is white in images of more than 8 bits"
    )
    add_json_argument(parser, "what was found")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Label all images, and print the share of each class."""
    from segkd.workbench.labelling import label_images, open_named_teacher

    teacher = open_named_teacher(args.teacher)
    with following() as progress:
        found = label_images(
            teacher, args.images, Path(args.out), min_confidence=args.min_confidence, top=args.top,
            stride=args.stride, upright=not args.as_stored, white=args.white, about={"teacher": args.teacher},
            progress=progress,
        )  # fmt: skip
    rows = [["class", "pixels (%)"]]
    rows += [[name, f"{part:.1f}"] for name, part in zip(found.class_names, found.shares, strict=True)]
    say_columns(rows, right=(1,))
    say(f"{found.images} images in {found.folder}; mean confidence {found.confidence:.1f} %, void {found.void:.1f} %")
    save_json(args.json, {**found._asdict(), "folder": str(found.folder)})
