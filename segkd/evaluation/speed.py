"""What a network costs: latency, multiply-accumulates (MACs), parameters, peak memory; and on which hardware."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import psutil
import torch
from torch import nn

Run = Callable[[], object]
Clock = Callable[[], float]  # runs something, and gives the milliseconds that it took
MIB = 1024 * 1024
NOISE = 1.3  # of the median over the minimum, from which on a time says little


@dataclass(frozen=True)
class Latency:
    """Wall time of one call in milliseconds: median, quartile distance, 90 and 99 % quantiles, best.

    fps: images per second at the median.
    """

    median_ms: float
    iqr_ms: float
    p90_ms: float
    min_ms: float
    fps: float
    repeats: int
    p99_ms: float

    @property
    def noisy(self) -> bool:
        """True if the median is so far above the best that something else must have run."""
        return self.median_ms > NOISE * self.min_ms

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class PeakMemory:
    """Memory a call needed on top of what was held before it, in MiB, and how that was read.

    method: "cuda" (allocator statistics), "vmhwm" (Linux: the process's high-water mark, reset before the call),
    "maxrss" (growth of the process's all-time peak: a lower bound, 0 where an earlier call needed more).
    """

    mib: float
    method: str


def compare_latency(runs: Mapping[str, Run], warmup: int = 5, repeats: int = 30, batch: int = 1) -> dict[str, Latency]:
    """Latency of each of several calls (that handle ``batch`` images), timed against each other.

    After ``warmup`` calls of each they take turns, in reversed order on every other repeat, so that a drift of the
    machine (other load, clock, heat) hits all of them alike. CUDA is synchronised.
    """
    found = take_turns({name: partial(milliseconds, run) for name, run in runs.items()}, warmup, repeats)
    return {name: summary(times, batch) for name, times in found.items()}


def take_turns(clocks: Mapping[str, Clock], warmup: int, repeats: int) -> dict[str, list[float]]:
    """The milliseconds that each of several clocks gives, asked in turns as in ``compare_latency``."""
    if repeats < 2:
        raise ValueError(f"latency needs at least 2 repeats for a spread, got {repeats}")
    order = list(clocks)
    for name in order:
        for _ in range(warmup):
            clocks[name]()
    times: dict[str, list[float]] = {name: [] for name in order}
    for repeat in range(repeats):
        for name in order if repeat % 2 == 0 else reversed(order):
            times[name].append(clocks[name]())
    return times


def milliseconds(run: Run) -> float:
    """Wall time of one call; CUDA is synchronised."""
    wait = torch.cuda.synchronize if torch.cuda.memory_reserved() > 0 else _no_wait  # CUDA works behind our back
    wait()
    start = time.perf_counter()
    run()
    wait()
    return (time.perf_counter() - start) * 1e3


def _no_wait() -> None:
    """The CPU is done when the call returns."""


def summary(times: Sequence[float], batch: int = 1) -> Latency:
    """What milliseconds of calls, each with ``batch`` images, come to."""
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    p90 = statistics.quantiles(times, n=10, method="inclusive")[8]
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
    return Latency(median, high - low, p90, min(times), 1e3 * batch / median, len(times), p99)


def count_macs(network: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-accumulates of one forward pass of one image (1, C, H, W), ``size`` = (H, W), in eval mode.

    Half of torch's FLOP count: convolutions, matrix products and attention; element-wise work, pooling and resizing
    are not counted. The network is left as it was, and ``preprocess`` is not part of the count.
    """
    from torch.utils.flop_counter import FlopCounterMode  # with triton, which takes as long as a fifth of torch

    anything = next((t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()), torch.zeros(()))
    mean = getattr(getattr(network, "preprocess", None), "mean", None)
    channels = len(mean) if isinstance(mean, torch.Tensor) and mean.dim() == 1 else 3
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, channels, *size, device=anything.device, dtype=anything.dtype))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return int(counter.get_total_flops()) // 2


def count_parameters(network: nn.Module) -> int:
    """Number of parameters, shared ones once; buffers (BatchNorm statistics) are not counted."""
    return sum(p.numel() for p in network.parameters())


def measure_memory(run: Run, device: torch.device | str = "cpu") -> PeakMemory:
    """Peak memory of one call, on the GPU (torch's allocator) or of the whole process.

    On the CPU let ``run`` do all that allocates (load the file, build the session, predict): memory that a library
    kept from an earlier call is not seen again.
    """
    if torch.device(device).type == "cuda":
        return _cuda_memory(run, device)
    gc.collect()
    _return_free_memory()
    if _reset_high_water_mark():
        before = _status_kib("VmRSS")
        run()
        return PeakMemory(max(_status_kib("VmHWM") - before, 0) / 1024, "vmhwm")
    peak = _process_peak_mib()
    run()
    return PeakMemory(_process_peak_mib() - peak, "maxrss")


def _cuda_memory(run: Run, device: torch.device | str) -> PeakMemory:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return PeakMemory((torch.cuda.max_memory_allocated(device) - before) / MIB, "cuda")


def _return_free_memory() -> None:
    """Give freed heap back to the system (glibc), else a call that reuses it would look free of charge."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _reset_high_water_mark() -> bool:
    """Set Linux's VmHWM back to the present size; False where the system has or allows no such thing."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")


def _process_peak_mib() -> float:
    """The largest size the process ever had."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / MIB
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024  # bytes on macOS, KiB elsewhere


def hardware() -> dict[str, object]:
    """What a measurement depends on: CPU, cores, threads, load, GPU and versions; plain values for JSON."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(psutil.getloadavg()[0], 2),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if gpu else None,
        "onnxruntime": _version("onnxruntime"),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
