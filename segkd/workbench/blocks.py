"""What each block of the networks' vocabulary costs against a 3x3 convolution."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segkd.deploy.runtimes import torch_threads
from segkd.errors import UserError
from segkd.evaluation.speed import compare_latency, count_parameters
from segkd.memory import require
from segkd.models.vocabulary import SAMPLES, STANDARD
from segkd.workbench import Row


def time_blocks(
    channels: int = 128, size: tuple[int, int] = (64, 128), batch: int = 1, repeats: int = 50, threads: int = 2
) -> list[Row]:
    """A row for each block: parameters, MACs per image, latency (ms, taken in turns), ratios to the 3x3 convolution."""
    if channels % 8:
        raise UserError(f"--channels must be a multiple of 8 (the blocks split them), got {channels}")
    require(
        4 * batch * channels * size[0] * size[1], "the blocks' input", "choose fewer --channels or a smaller --size"
    )
    generator = torch.Generator().manual_seed(0)
    calls: dict[str, Callable[[], object]] = {}
    rows: dict[str, Row] = {}
    for name, sample in SAMPLES.items():
        block = sample.build(channels).eval()
        maps = [
            torch.randn(batch, round(c * channels), size[0] // s, size[1] // s, generator=generator)
            for c, s in sample.maps
        ]
        calls[name] = lambda block=block, maps=maps: block(*maps)  # type: ignore[misc]
        rows[name] = {"name": name, "parameters": count_parameters(block), "macs": _macs(block, maps) // batch}
    with torch.inference_mode(), torch_threads(threads):
        timed = compare_latency(calls, repeats=repeats, batch=batch)
    for name, row in rows.items():
        row |= {"latency_ms": timed[name].median_ms, "latency_iqr_ms": timed[name].iqr_ms}
        row |= {f"{key}_ratio": row[key] / rows[STANDARD][key] for key in ("parameters", "macs", "latency_ms")}
    return list(rows.values())


def _macs(block: nn.Module, maps: list[Tensor]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        block(*maps)
    return int(counter.get_total_flops()) // 2
