"""``segkd data show``: a contact sheet of a split, its labels laid over its images."""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import following, positive, say
from segkd.cli.data_args import add_set_arguments, section_of
from segkd.files import writable_png


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "show",
        help="draw images, their labels and a legend on a sheet",
        description="Draws images of a split, each beside its label laid over it, with a legend of the classes that "
        "are seen; with --augmented, also as a training sees them.",
    )
    add_set_arguments(parser, several=False)
    parser.add_argument("--count", type=positive, default=12, metavar="N", help="images, evenly spread (default 12)")
    parser.add_argument("--augmented", action="store_true", help="also what the training augmentation makes of each")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of --augmented (default 0)")
    parser.add_argument("--out", metavar="FILE", help="the PNG file (default: SPLIT_sheet.png in the working folder)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Write the picture."""
    from segkd.report.contact_sheet import Sheet, draw_sheet
    from segkd.report.pictures import write_png
    from segkd.workbench.data_pairs import open_pairs

    split = args.split or "train"
    out = writable_png(args.out or f"{split}_sheet.png")
    found = open_pairs(section_of(args, crops=args.augmented), split, args.count, args.augmented, args.seed)
    sheet = Sheet(found.dataset.class_names, found.dataset.palette, found.title(), found.heads)
    with following() as progress:
        picture = draw_sheet(sheet, found.rows(progress))
    write_png(out, picture)
    say(f"wrote {out}: {len(found.indices)} of the {len(found.dataset)} pairs of {split}")
