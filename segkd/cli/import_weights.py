"""``segkd import-weights``: a weights file as its authors published it -> one of ours, with its preprocessing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segkd.cli.common import say, say_columns
from segkd.cli.paths import existing_file, writable_file
from segkd.errors import UserError


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("import-weights", help="make a weights file of one that its authors published")
    parser.add_argument("name", metavar="NAME", nargs="?", help="which file it is; without it, list those known")
    parser.add_argument("file", metavar="FILE", nargs="?", help="the published file, on this machine")
    parser.add_argument("--out", type=writable_file, metavar="FILE", help="the file to write (.pth)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Write the file and say how to score it; or list what can be imported."""
    from segkd.evaluation.speed import count_parameters
    from segkd.models.published import CHECKPOINTS, checkpoint
    from segkd.training.state import save_atomically

    if args.name is None:
        rows = [(name, entry.source) for name, entry in CHECKPOINTS.items()]
        say_columns([("name", "published in"), *rows])
        return
    entry = checkpoint(args.name)
    if args.file is None or args.out is None:
        raise UserError(f"name the published file and where to write: segkd import-weights {args.name} FILE --out FILE")
    file, out = existing_file(args.file, "weights file"), Path(args.out)
    if out.suffix not in (".pth", ".pt"):
        raise UserError(f"cannot write {out}: a weights file's name ends in .pth")
    if out.exists() and out.samefile(file):
        raise UserError(f"{out} is the published file itself; give --out another name")
    network = entry.load(file)
    save_atomically(network.state_dict(), out)
    outputs = entry.options["num_classes"]
    kept = "" if network.num_classes == outputs else f", {network.num_classes} of {outputs} outputs"
    say(f"read {file}: {type(network).__name__}, {count_parameters(network):,} parameters{kept}")
    say(f"wrote {out}, with the preprocessing it was trained with; score it with")
    sets = " ".join(f"--set model.network.{key}={value}" for key, value in entry.options.items())
    say(f"  segkd eval {entry.config} {out} {sets}")
    if entry.note:
        say(entry.note)
