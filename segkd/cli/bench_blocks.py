"""``segkd bench blocks``: what each block of the networks' vocabulary costs against a 3x3 convolution."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from segkd.cli.common import console, save_json, say
from segkd.errors import UserError

if TYPE_CHECKING:
    import torch

CHANNELS, SIZE = 128, (64, 128)


def run(args: argparse.Namespace) -> None:
    """Build every block at equal channels, count it, time them in turns, print the table."""
    import torch

    from segkd.training.environment import environment

    channels, size = args.channels or CHANNELS, args.size or SIZE
    if channels % 8:
        raise UserError(f"--channels must be a multiple of 8 (the blocks split them), got {channels}")
    torch.set_num_threads(args.threads)
    rows = measure(channels, size, args.batch, max(args.repeats, 2))
    about = environment(None)
    title = f"{channels} channels, maps of {size[0]}x{size[1]} (HxW), batch {args.batch}, {args.threads} threads, eval:"
    say(title, style="bold")
    _print(rows)
    say("MACs: convolutions and matrix products. Times of the blocks were taken in turns.")
    save_json(args.json, {"channels": channels, "size": size, "batch": args.batch, "rows": rows, **about})


def measure(channels: int, size: tuple[int, int], batch: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each block: parameters, MACs per image, latency (ms), and ratios to the 3x3 convolution."""
    import torch

    from segkd.evaluation.speed import compare_latency, count_parameters
    from segkd.models.vocabulary import SAMPLES, STANDARD

    generator = torch.Generator().manual_seed(0)
    calls: dict[str, Any] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, sample in SAMPLES.items():
        block = sample.build(channels).eval()
        maps = [
            torch.randn(batch, round(c * channels), size[0] // s, size[1] // s, generator=generator)
            for c, s in sample.maps
        ]
        calls[name] = lambda block=block, maps=maps: block(*maps)
        rows[name] = {"name": name, "parameters": count_parameters(block), "macs": _macs(block, maps) // batch}
    with torch.inference_mode():
        timed = compare_latency(calls, repeats=repeats, batch=batch)
    for name, row in rows.items():
        row |= {"latency_ms": timed[name].median_ms, "latency_iqr_ms": timed[name].iqr_ms}
        row |= {f"{key}_ratio": row[key] / rows[STANDARD][key] for key in ("parameters", "macs", "latency_ms")}
    return list(rows.values())


def _macs(block: torch.nn.Module, maps: list[torch.Tensor]) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        block(*maps)
    return int(counter.get_total_flops()) // 2


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
