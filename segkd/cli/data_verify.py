"""``segkd data verify``: every file of a data set looked at, and all that is wrong listed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from typing import Any

from segkd.cli.common import add_json_argument, following, positive, save_json, say
from segkd.cli.data_args import add_set_arguments, section_of
from segkd.errors import UserError

FEW = 3  # problems of one kind that are listed each
SPECIAL = re.compile(r"\S*/\S*|'[^']*'|\d+(, \d+)*")  # of one file: paths, names, numbers


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "verify",
        help="look at every file and list all that is wrong",
        description="Lists files without partner, unreadable files, sizes that differ, label values outside the "
        "classes; of each split, classes without a pixel and the share of void. Exit code 2 if anything is wrong.",
    )
    add_set_arguments(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="look at N pairs of each split, evenly spread")
    add_json_argument(parser, "it")
    parser.set_defaults(run=run)


def grouped(problems: Sequence[str]) -> Iterator[str]:
    """Problems, a line each; of many files with the same one, the first and how many there are.

    Each begins with a file, up to the first colon and blank. What differs in numbers and names alone is the same.
    """
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(SPECIAL.sub("", problem.partition(": ")[2]), []).append(problem)
    for same in kinds.values():
        if len(same) <= FEW:
            yield from same
        else:
            yield f"{len(same)} files such as {same[0]} (--json lists all)"


def run(args: argparse.Namespace) -> None:
    """Print the problems, and a line for each split."""
    from segkd.workbench.datasets import verify_splits

    section = section_of(args)
    with following() as progress:
        found = verify_splits(section, args.split, args.limit, progress)
    for split in found:
        for line in grouped(split.problems) if split.class_names else ():
            say(line)
    for split in found:
        for note in split.notes:
            say(f"note: {split.name}: {note}")
        say(split.summary())
    save_json(args.json, {"splits": [split.as_dict() for split in found]})
    if count := sum(len(split.problems) for split in found):
        raise UserError(f"{count} problem{'s' if count > 1 else ''} found")
