"""``segkd import-weights``: a weights file as its authors published it -> one of ours, with its preprocessing."""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import say, say_columns
from segkd.errors import UserError
from segkd.files import writable_file


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("import-weights", help="make a weights file of one that its authors published")
    parser.add_argument("name", metavar="NAME", nargs="?", help="which file it is; without it, list those known")
    parser.add_argument("file", metavar="FILE", nargs="?", help="the published file, on this machine")
    parser.add_argument("--out", type=writable_file, metavar="FILE", help="the file to write (.pth)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Write the file and say how to score it; or list what can be imported."""
    from segkd.workbench.published import import_published, is_backbone, known_files

    if args.name is None:
        say_columns([("name", "published in"), *known_files().items()])
        return
    if args.file is None or args.out is None:
        raise UserError(f"name the published file and where to write: segkd import-weights {args.name} FILE --out FILE")
    if is_backbone(args.name):
        _backbone(args)
        return
    imported = import_published(args.name, args.file, args.out)
    kept = "" if imported.num_classes == imported.outputs else f", {imported.num_classes} of {imported.outputs} outputs"
    say(f"read {args.file}: {imported.network}, {imported.parameters:,} parameters{kept}")
    say(f"wrote {args.out}, with the preprocessing it was trained with; score it with")
    sets = " ".join(f"--set {override}" for override in imported.overrides)
    say(f"  segkd eval {imported.flags} {args.out} {sets}")
    if imported.note:
        say(imported.note)


def _backbone(args: argparse.Namespace) -> None:
    from segkd.workbench.published import import_backbone

    imported = import_backbone(args.name, args.file, args.out)
    say(f"read {args.file}: {imported.network} of timm, ImageNet, {imported.tensors} tensors")
    say(f"wrote {args.out}, with the preprocessing it was trained with; start a network from it with")
    say(f"  --set model.network.pretrained={args.out}")
    say(f"where the network is light_fpn or timm with {imported.network}, or smp with tu-{imported.network}")
