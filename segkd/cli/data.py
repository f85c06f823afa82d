"""``segkd data``: what there is to do with a data set before a training; one file for each of its subcommands."""

from __future__ import annotations

from importlib import import_module
from typing import Any

SUBCOMMANDS = ("verify", "show", "stats", "convert", "split")


def add(subparsers: Any) -> None:
    """Register the subcommand, with those of its own: ``segkd/cli/data_NAME.py``."""
    parser = subparsers.add_parser(
        "data", help="look at a data set: what is wrong, a contact sheet, class frequencies; convert it, split it"
    )
    own = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    for name in SUBCOMMANDS:
        import_module(f"segkd.cli.data_{name}").add(own)
