"""``segkd bench blocks``: what each block of the networks' vocabulary costs against a 3x3 convolution."""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import console, save_json, say

CHANNELS, SIZE = 128, (64, 128)


def run(args: argparse.Namespace) -> None:
    """Build every block at equal channels, count it, time them in turns, print the table."""
    from segkd.engine.environment import environment
    from segkd.workbench.blocks import time_blocks

    channels, size = args.channels or CHANNELS, args.size or SIZE
    rows = time_blocks(channels, size, args.batch, max(args.repeats, 2), args.threads)
    about = environment(None)
    title = f"{channels} channels, maps of {size[0]}x{size[1]} (HxW), batch {args.batch}, {args.threads} threads, eval:"
    say(title, style="bold")
    _print(rows)
    say("MACs: convolutions and matrix products. Times of the blocks were taken in turns.")
    save_json(args.json, {"channels": channels, "size": size, "batch": args.batch, "rows": rows, **about})


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None)
    table.add_column("block")
    for title in ("parameters (k)", "of 3x3", "MACs (M)", "of 3x3", "latency (ms)", "IQR (ms)", "of 3x3"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['parameters'] / 1e3:.1f}", f"{row['parameters_ratio']:.2f}",
            f"{row['macs'] / 1e6:.1f}", f"{row['macs_ratio']:.2f}",
            f"{row['latency_ms']:.2f}", f"{row['latency_iqr_ms']:.2f}", f"{row['latency_ms_ratio']:.2f}",
        )  # fmt: skip
    console.print(table)
