"""``segkd data split``: images divided into train, val and test, as list files."""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import add_json_argument, following, save_json, say, say_columns, share
from segkd.cli.data_args import add_set_arguments, section_of
from segkd.files import writable_folder


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "split",
        help="divide images into train, val and test, with equal shares of the classes",
        description="Writes train.txt, val.txt (and test.txt) into DIR/splits, where `segkd train --data DIR` finds "
        "them. Every class gets the same share of its pixels in each split, as far as whole images and sequences "
        "allow (--val 0.2 of the images, --group prefix for frames of videos).",
    )
    add_set_arguments(parser, splits=False)
    parser.add_argument("--test", type=share, default=0.0, metavar="X", help="the share for testing (0: none)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the order among equals (0)")
    parser.add_argument("--out", type=writable_folder, metavar="DIR", help="folder of the lists (default: DIR/splits)")
    parser.add_argument("--force", action="store_true", help="write over lists that are there")
    add_json_argument(parser, "the lists and the pixels of each class")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Divide, and print the share of each class in each split."""
    from segkd.workbench.dividing import divide

    words = dict(val=0.2 if args.val is None else args.val, group=args.group, test=args.test, seed=args.seed)
    args.val = args.group = None  # not of the data set, which has no splits yet
    section = section_of(args)
    with following() as progress:
        found = divide(section, out=args.out, force=args.force, progress=progress, **words)
    splits = list(found.images)
    shares = {split: found.shares(split) for split in splits}
    say_columns(
        [["class, pixels (%)", *splits], ["images", *(str(len(found.images[split])) for split in splits)]]
        + [[name, *(f"{shares[split][k]:.2f}" for split in splits)] for k, name in enumerate(found.class_names)],
        right=range(1, len(splits) + 1),
    )
    for split in splits:
        if absent := [name for name, count in zip(found.class_names, found.pixels[split], strict=True) if not count]:
            say(f"note: {split} has no pixel of {', '.join(absent[:10])}")
    if found.note:
        say(f"note: {found.note}")
    say(f"lists in {found.folder}: {', '.join(f'{split}.txt' for split in splits)}")
    save_json(args.json, found.as_dict())
