"""``segkd bench blocks``: what each block of the networks' vocabulary costs against a 3x3 convolution."""

from __future__ import annotations

import argparse

from segkd.cli.common import console, save_json, say

CHANNELS, SIZE = 128, (64, 128)


def run(args: argparse.Namespace) -> None:
    """Build every block at equal channels, count it, time them in turns, print the table."""
    from segkd.report.tables import blocks_table
    from segkd.training.environment import environment
    from segkd.workbench.blocks import time_blocks

    channels, size = args.channels or CHANNELS, args.size or SIZE
    rows = time_blocks(channels, size, args.batch, max(args.repeats, 2), args.threads)
    about = environment(None)
    title = f"{channels} channels, maps of {size[0]}x{size[1]} (HxW), batch {args.batch}, {args.threads} threads, eval:"
    say(title, style="bold")
    console.print(blocks_table(rows))
    say("MACs: convolutions and matrix products. Times of the blocks were taken in turns.")
    save_json(args.json, {"channels": channels, "size": size, "batch": args.batch, "rows": rows, **about})
