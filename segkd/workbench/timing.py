"""What models cost: latency taken in turns, each in the process that holds it; parameters, MACs, memory, scaling."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from segkd.deploy.runtimes import LABELS, OnnxRuntime, Runtime, TorchRuntime
from segkd.errors import UserError
from segkd.evaluation.speed import Latency, count_macs, count_parameters, measure_memory, milliseconds, take_turns
from segkd.evaluation.speed import summary as summary_of
from segkd.memory import check_inference
from segkd.workbench import Progress, Row, silent
from segkd.workbench.isolation import CrashError, ask, network_of

Size = tuple[int, int]
WARMUP = 5  # calls


def common_size(models: Mapping[str, Runtime], asked: Size | None = None) -> Size | None:
    """The one size (H, W) at which all can be timed: as asked, else the ONNX files'; None where any will do."""
    fixed = {name: model.size for name, model in models.items() if model.size is not None}
    size = asked or next(iter(fixed.values()), None)
    for name, own in fixed.items():
        if own != size:
            raise UserError(
                f"{name} takes images of {size_text(own)} (HxW), not {size_text(size)}: export one for that size"
            )
    return size


def size_text(size: Sequence[int] | None) -> str:
    """A size (H, W) as ``HxW``."""
    return "x".join(map(str, size or ()))


class Turns:
    """The clocks of models that are timed in turns; those of one that crashes give NaN from then on.

    Attributes:
        crashed: what happened, by the model's name.
    """

    def __init__(self) -> None:
        self.crashed: dict[str, str] = {}

    def clock(self, name: str, runtime: Runtime, size: Size, batch: int, to_labels: bool) -> Callable[[], float]:
        """The milliseconds of one call with ``batch`` images of a size, in the process that holds the model."""

        def asked() -> float:
            found = self.of(name, runtime, call_once, size, batch, to_labels)
            return math.nan if found is None else float(found)

        return asked

    def of(self, name: str, runtime: Runtime, function: Callable[..., object], *arguments: object) -> Any:
        """What a function says of a model; None if that has crashed."""
        if name in self.crashed:
            return None
        try:
            return ask(runtime, function, *arguments)
        except CrashError as crash:
            self.crashed[name] = str(crash)
            return None


def time_models(
    models: Mapping[str, Runtime], size: Size, batch: int = 1, repeats: int = 30, progress: Progress = silent
) -> list[Row]:
    """A row for each model: latency (taken in turns), cost and peak memory for images (batch, channels, H, W).

    If any of them gives labels alone, all are timed to labels, else to what the file gives, logits. Of a model whose
    process ends the row has ``name`` and ``crashed``, what happened.
    """
    check_batches(models, size, [batch])
    to_labels = any(runtime.output == LABELS for runtime in models.values())
    turns = Turns()
    clocks = {name: turns.clock(name, model, size, batch, to_labels) for name, model in models.items()}
    progress("timing", 0, None)
    times = take_turns(clocks, WARMUP, repeats)
    costs = {name: turns.of(name, model, cost_of, size) for name, model in models.items()}
    memory = {name: turns.of(name, model, memory_of, size, batch) for name, model in models.items()}
    rows = []
    for name, runtime in models.items():
        if name in turns.crashed:
            rows.append({"name": name, "crashed": turns.crashed[name]})
            continue
        twin = _torch_twin(name, models, size)
        of_network = (costs[twin] or {}) if twin is not None else {}
        speed = _speed(runtime, summary_of(times[name], batch), size)
        rows.append({"name": name, **speed, "peak_memory_mib": memory[name], **of_network})
    return [row if "crashed" in row else row | _ratios(row, models, rows, batch) for row in rows]


def check_batches(models: Mapping[str, Runtime], size: Size, batches: Sequence[int]) -> None:
    """Refuse, before the work, what fits into no memory, or no file for another number of images or bands."""
    check_channels(models)
    for name, runtime in models.items():
        check_inference(runtime.num_classes, size, max(batches), runtime.device)
        own = runtime.metadata.get("batch")
        if other := [batch for batch in batches if own not in (None, batch)]:
            raise UserError(f"{name} takes {own} images a call, not {other[0]}: export one without --batch")


def check_channels(models: Mapping[str, Runtime]) -> None:
    """Refuse models that take images of different bands."""
    found = {runtime.channels: name for name, runtime in models.items()}
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise UserError(f"{first} takes images of {one} bands, {second} of {other}: they cannot see the same image")


@lru_cache(maxsize=8)
def random_image(size: Size, batch: int = 1, channels: int = 3) -> Tensor:
    """Images (batch, channels, H, W) uint8, the same in each process."""
    seed = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, channels, *size), dtype=torch.uint8, generator=seed)


def call_once(runtime: Runtime, size: Size, batch: int, to_labels: bool) -> float:
    """The milliseconds of one call."""
    image = random_image(size, batch, runtime.channels)
    return milliseconds(partial(runtime.labels if to_labels else runtime.predict, image))


def memory_of(runtime: Runtime, size: Size, batch: int) -> float:
    """MiB that loading a model and one call take: memory kept from earlier calls would not be seen."""
    image = random_image(size, batch, runtime.channels)
    return measure_memory(lambda: runtime.again().labels(image), runtime.device).mib


def cost_of(runtime: Runtime, size: Size) -> Row:
    """Parameters and MACs of a torch network; nothing of a file."""
    return cost(runtime.network, size) if isinstance(runtime, TorchRuntime) else {}


def cost(network: nn.Module, size: Size) -> Row:
    """Parameters, and MACs of one image of that size."""
    on_cpu = copy.deepcopy(network).cpu().float()
    return {"parameters": count_parameters(network), "macs": count_macs(on_cpu, size)}


def _torch_twin(name: str, models: Mapping[str, Runtime], size: Size) -> str | None:
    """Where parameters and MACs can be counted: an ONNX file has those of its network, if that is compared too."""
    own = models[name]
    if network_of(own) is not None:
        return name
    networks = {other: network_of(model) for other, model in models.items()}
    wanted = own.metadata.get("network")
    return next((o for o, network in networks.items() if network and own.size == size and network == wanted), None)


def _ratios(row: Row, models: Mapping[str, Runtime], rows: Sequence[Row], batch: int) -> Row:
    """How much faster than the float file in the same runtime an int8 file is, and GMAC/s where MACs are known."""
    own, found = models[str(row["name"])], {}
    if "quantization" in own.metadata:
        timed = [other for other in rows if "crashed" not in other]
        floats = [other for other in timed if _is_float_of(models[str(other["name"])], own)]
        if floats:
            found["speedup"] = floats[0]["latency_ms"] / row["latency_ms"]
    if row.get("macs"):
        found["gmacs_per_s"] = batch * row["macs"] / 1e6 / row["latency_ms"]
    return found


def _is_float_of(other: Runtime, int8: Runtime) -> bool:
    """True for a float file of the same network and size in the same runtime."""
    same = all(getattr(other, key) == getattr(int8, key) for key in ("name", "size", "num_classes"))
    return same and "quantization" not in other.metadata and "network" in other.metadata


def _speed(runtime: Runtime, latency: Latency, size: Size) -> Row:
    return {
        "latency_ms": latency.median_ms,
        "latency_iqr_ms": latency.iqr_ms,
        "latency_p90_ms": latency.p90_ms,
        "latency_p99_ms": latency.p99_ms,
        "latency_min_ms": latency.min_ms,
        "noisy": latency.noisy,
        "fps": latency.fps,
        "file_bytes": runtime.file_size,
        "runtime": runtime.name,
        "size": list(runtime.size or size),
    }


def operators_of(models: Mapping[str, Runtime], size: Size, batch: int = 1) -> dict[str, dict[str, float]]:
    """The share of the time (percent) that each operator takes, of every ONNX file in ONNX Runtime."""
    turns = Turns()
    found = {name: turns.of(name, model, operator_shares, size, batch) for name, model in models.items()}
    return {name: shares for name, shares in found.items() if isinstance(shares, dict) and shares}


def operator_shares(runtime: Runtime, size: Size, batch: int) -> dict[str, float]:
    """The share of the time (percent) of each operator of an ONNX file in ONNX Runtime; nothing of others."""
    from segkd.deploy.peak import operator_times

    if not isinstance(runtime, OnnxRuntime):
        return {}
    image = torch.zeros(batch, runtime.channels, *size, dtype=torch.uint8)
    return operator_times(runtime.path, {"image": runtime.to_input(image)})


def time_scaling(
    models: Mapping[tuple[str, int], Runtime],
    size: Size,
    batches: Sequence[int],
    repeats: int = 30,
    progress: Progress = silent,
) -> list[Row]:
    """A row for each model, number of threads and of images a call, all timed in turns.

    ``name``, ``threads``, ``batch``, ``latency_ms`` of a call, ``image_ms`` of an image, ``fps``, ``scaling``: images
    per second as a multiple of those of the model's first row. Of a crash ``name`` and ``crashed``.

    Args:
        models: by name and threads.
        batches: images per call.
    """
    by_name = {name: runtime for (name, _), runtime in models.items()}
    check_batches(by_name, size, batches)
    to_labels = any(runtime.output == LABELS for runtime in models.values())
    turns = Turns()
    places = [(name, threads, batch) for name, threads in models for batch in batches]
    clocks = {
        repr(place): turns.clock(place[0], models[place[:2]], size, place[2], to_labels)
        for place in places
    }  # fmt: skip
    progress("timing", 0, None)
    times = take_turns(clocks, WARMUP, repeats)
    rows: list[Row] = []
    first: dict[str, float] = {}
    for place in places:
        name, threads, batch = place
        if name in turns.crashed:
            continue
        latency = summary_of(times[repr(place)], batch)
        fps = first.setdefault(name, latency.fps)
        row = {"name": name, "threads": threads, "batch": batch, "latency_ms": latency.median_ms}
        row |= {"image_ms": latency.median_ms / batch, "fps": latency.fps, "scaling": latency.fps / fps}
        rows.append({**row, "latency_min_ms": latency.min_ms, "noisy": latency.noisy})
    return rows + [{"name": name, "crashed": reason} for name, reason in turns.crashed.items()]
