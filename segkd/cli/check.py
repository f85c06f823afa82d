"""``segkd check``: a training looked at before its first step, without beginning it."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from segkd.cli.common import (
    WORDS,
    add_json_argument,
    add_run_arguments,
    add_word_arguments,
    console,
    following,
    load,
    positive,
    save_json,
    say,
    say_columns,
)
from segkd.cli.streams import complain

if TYPE_CHECKING:
    from segkd.workbench.preflight import Preflight

STYLES = {"error": "bold red", "warning": "yellow", "fine": None}


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "check",
        help="score the teacher, try each term, measure time, memory and disk, before a training",
        description="Look at a training without beginning it: the teacher scored on a few validation images (and why, "
        "where it does badly: normalisation, BGR, order of classes, weights), classes that agree, each term's value "
        "and gradient on one batch, time and memory of a step, disk. Exit code 1 if the run would be wasted.",
    )
    add_run_arguments(parser)
    add_word_arguments(parser)
    parser.add_argument(
        "--sample", type=positive, default=8, metavar="N", help="validation images to score the teacher on (default 8)"
    )
    add_json_argument(parser, "it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print what was found; exit with code 1 if there is an error in it."""
    from segkd.workbench.preflight import preflight

    cfg = load(args, WORDS)
    with following() as progress:
        found = preflight(cfg, args.sample, progress=progress)
    _print_terms(found)
    for one in found.findings:
        console.print(f"{one.level}: {one}", style=STYLES[one.level], markup=False, highlight=False, soft_wrap=True)
    say(found.summary(), style="bold")
    save_json(args.json, found.as_dict())
    if not found.ok:
        complain(f"segkd check: {found.reason()}")
        raise SystemExit(1)


def _print_terms(found: Preflight) -> None:
    """A row for each term, and what the columns are."""
    if not found.terms:
        return
    rows = [("term", "value", "gradient", "at the shared layer", "times the labels'")]
    rows += [
        (row["name"], *(_number(row[key]) for key in ("value", "gradient", "shared_gradient", "pull")))
        for row in found.terms
    ]
    say_columns(rows, right=(1, 2, 3, 4))
    say(f"gradients: norms on one batch, to all of the student; the shared layer is {found.layer or 'none'}")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if math.isfinite(value) else str(value)
