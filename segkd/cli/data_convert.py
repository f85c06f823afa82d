"""``segkd data convert``: labels of any format as PNGs of class ids, once."""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import add_json_argument, following, save_json, say, say_columns
from segkd.cli.data_args import add_set_arguments, section_of
from segkd.files import writable_folder


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "convert",
        help="write labels of any format as PNGs of class ids",
        description="Writes DIR/labels, DIR/classes.txt and DIR/pairs.csv, which names the images where they are: "
        "`segkd train --data DIR` trains on it. Stopped and started again, it goes on where it was.",
    )
    add_set_arguments(parser, splits=False)
    parser.add_argument("--out", required=True, type=writable_folder, metavar="DIR", help="folder of what is written")
    parser.add_argument("--force", action="store_true", help="write anew what is there")
    add_json_argument(parser, "what was written")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Convert, and print the share of each class."""
    from segkd.workbench.converting import convert_labels

    section = section_of(args)
    with following() as progress:
        found = convert_labels(section, args.out, force=args.force, progress=progress)
    rows = [["", "class", "pixels (%)"]]
    for k, (name, share) in enumerate(zip(found.class_names, found.shares, strict=True)):
        rows.append([str(k), name, f"{share:.2f}"])
    rows.append(["255", "void", f"{100 - sum(found.shares):.2f}"])
    say_columns(rows, right=(0, 2))
    counts = ", ".join(f"{count} of {split}" if split else str(count) for split, count in found.images.items())
    say(f"labels in {found.folder}: {counts}")
    kept = [key for key in ("white", "upright", "channels") if section["dataset"].get(key) is not None]
    more = "".join(f" --set data.dataset.{key}={section['dataset'][key]}" for key in kept)
    say(f"train on them: segkd train --student NAME --data {found.folder}{more}")
    save_json(
        args.json,
        {**found._asdict(), "folder": str(found.folder), "images": {str(k): v for k, v in found.images.items()}},
    )
