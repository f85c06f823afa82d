"""The arguments that the subcommands of ``segkd data`` share: which data set, and which of its splits."""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import add_data_arguments, data_of
from segkd.errors import UserError


def add_set_arguments(parser: argparse.ArgumentParser, several: bool = True, splits: bool = True) -> None:
    """Add NAME, the flags of ``segkd train`` that say what a run's data is, and --split, of ``several`` or of one.

    Without ``splits``, all are meant.
    """
    parser.add_argument(
        "name", metavar="NAME|DIR", nargs="?", help="a data set by its name or folder, a config file or a run folder"
    )
    add_data_arguments(parser)
    if not splits:
        return
    if several:
        told = "train, val, ... (default: all that have labels; may be repeated)"
        parser.add_argument("--split", action="append", metavar="NAME", help=told)
    else:
        parser.add_argument("--split", metavar="NAME", help="train, val, ... (default: train)")


def section_of(args: argparse.Namespace, crops: bool = False) -> dict[str, Any]:
    """The section ``data`` of the config that the arguments name; ``crops`` are made, or not looked at."""
    from segkd.workbench.datasets import open_section

    if args.name is not None and args.data is not None:
        raise UserError(f"two data sets named: {args.name} and --data {args.data}; leave one out")
    args.data = args.data if args.name is None else args.name
    given = data_of(args)
    if given is None:
        raise UserError("nothing named: give a data set, such as `camvid --root DIR` (`segkd configs` lists them)")
    return open_section(given, args.root, args.overrides, args.crop, crops)
