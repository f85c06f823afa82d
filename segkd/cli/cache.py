"""``segkd cache``: a teacher's answers to all training images, kept once, so that it need not run in every step."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segkd.cli.common import (
    WORDS,
    add_json_argument,
    add_run_arguments,
    add_word_arguments,
    following,
    load,
    positive,
    save_json,
    say,
    say_columns,
)
from segkd.files import writable_folder


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "cache",
        help="keep a teacher's answers to all training images, which then stand in its place",
        description="Takes what `segkd train` takes, and writes what the recipe reads of the teacher, for each image "
        "as a whole. The same training with --teacher DIR then warps that onto its crops. Started again, it goes on "
        "where it stopped.",
    )
    add_run_arguments(parser)
    add_word_arguments(parser)
    parser.add_argument("--out", required=True, type=writable_folder, metavar="DIR", help="folder of the answers")
    parser.add_argument("--uint8", action="store_true", help="256 steps for each channel of a map, half the size")
    parser.add_argument("--top", type=positive, default=0, metavar="K", help="of the logits: the K likeliest classes")
    add_json_argument(parser, "what was kept")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Keep the answers, and say what was kept."""
    from segkd.workbench.caching import cache_answers

    cfg = load(args, WORDS)
    with following() as progress:
        found = cache_answers(
            cfg, Path(args.out), kind="uint8" if args.uint8 else "float16", top=args.top, progress=progress
        )
    rows = [["tap", "channels, height, width"]]
    rows += [[tap or "(logits)", ", ".join(map(str, shape))] for tap, shape in found.taps.items()]
    say_columns(rows)
    counts = " and ".join(f"{count} {part} images" for part, count in found.images.items())
    say(f"{counts} in {found.folder}: {found.bytes / 2**20:.1f} MiB, {found.seconds:.0f} s")
    say(f"train on them with --teacher {found.folder}, the rest as it was")
    save_json(args.json, {**found._asdict(), "folder": str(found.folder)})
