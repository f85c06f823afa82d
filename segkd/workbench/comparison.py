"""Scores and speed of several models side by side: torch weights, ONNX float32, int8."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial

import torch
from torch import Tensor, nn

from segkd.datasets import SegmentationDataset
from segkd.datasets.base import RGB
from segkd.datasets.loading import eval_loader
from segkd.deploy.peak import measure_peaks as measure_peaks
from segkd.deploy.peak import operator_times
from segkd.deploy.runtimes import LABELS, OnnxRuntime, Runtime, TorchRuntime
from segkd.errors import UserError
from segkd.evaluation.inference import evaluate
from segkd.evaluation.looking import Views
from segkd.evaluation.scores import ConfusionMatrix, Scores
from segkd.evaluation.speed import Latency, compare_latency, count_macs, count_parameters, measure_memory
from segkd.memory import check_inference, keep_freed_memory
from segkd.workbench import Progress, Row, silent
from segkd.workbench.scoring import Scored, Wanted, check_sizes, score_models


def evaluate_models(
    models: Mapping[str, Runtime],
    dataset: SegmentationDataset,
    timed_at: tuple[int, int] | None = None,
    *,
    wanted: Wanted | None = None,
    workers: int = 0,
    progress: Progress = silent,
) -> list[Row]:
    """A row for each model: its scores on the data set, and its speed for images of ``timed_at`` (H, W)."""
    return [one.row for one in evaluate_in_detail(models, dataset, timed_at, wanted, workers, progress)[0]]


def evaluate_in_detail(
    models: Mapping[str, Runtime],
    dataset: SegmentationDataset,
    timed_at: tuple[int, int] | None = None,
    wanted: Wanted | None = None,
    workers: int = 0,
    progress: Progress = silent,
) -> tuple[list[Scored], list[Row]]:
    """What is known of each model, and the differences of every two if intervals are wanted (see ``score_models``).

    Args:
        timed_at: (H, W) of images for which each row says the speed, that of one look.
        wanted: what to score by, and how.
        workers: processes that read images; one is enough, so more are as one.
    """
    wanted = wanted or Wanted()
    check_fit(models, dataset, wanted.void_output, wanted.views)
    found, differences = score_models(models, dataset, wanted, workers, progress)
    if timed_at is not None:
        for scored, timed in zip(found, time_models(models, timed_at, progress=progress), strict=True):
            scored.row.update(timed)
    return found, differences


def score_model(
    runtime: Runtime,
    dataset: SegmentationDataset,
    *,
    workers: int = 0,
    progress: Callable[[int, int], object] | None = None,
    matrix: ConfusionMatrix | None = None,
) -> Scores:
    """Scores of one model over the whole data set; ``progress`` is called with the images done and their number.

    The pixels are counted in ``matrix`` where one is given.
    """
    keep_freed_memory()
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, len(dataset))

    with closing(eval_loader(dataset, batch_size=1, workers=min(workers, 1))) as batches:
        return evaluate(runtime.predict, batches, dataset.num_classes, advance, matrix=matrix)


def image_size(dataset: SegmentationDataset) -> tuple[int, int]:
    """(H, W) of the first image."""
    height, width = dataset[0].label.shape
    return int(height), int(width)


def check_fit(
    models: Mapping[str, Runtime], dataset: SegmentationDataset, void_output: bool = False, views: Views | None = None
) -> None:
    """Refuse, before the long work, a model of other classes or bands than the data's, or a file of another size."""
    data = type(dataset).__name__
    for name, runtime in models.items():
        if runtime.num_classes != dataset.num_classes + void_output:
            has = f"{dataset.num_classes}{' and void' if void_output else ''}"
            raise UserError(f"{name} predicts {runtime.num_classes} classes, but {data} has {has}")
        if runtime.channels != getattr(dataset, "channels", RGB):
            raise UserError(
                f"{name} takes images of {runtime.channels} bands, but those of {data} have {dataset.channels}"
            )
    check_sizes(models, image_size(dataset), data, views or Views())


def common_size(models: Mapping[str, Runtime], asked: tuple[int, int] | None = None) -> tuple[int, int] | None:
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


def time_models(
    models: Mapping[str, Runtime],
    size: tuple[int, int],
    batch: int = 1,
    repeats: int = 30,
    progress: Progress = silent,
) -> list[Row]:
    """A row for each model: latency (taken in turns), cost and peak memory for images (batch, 3, H, W).

    If any of them gives labels alone, all are timed to labels, else to what the file gives, logits.
    """
    seed = torch.Generator().manual_seed(0)
    for runtime in models.values():
        check_inference(runtime.num_classes, size, batch, runtime.device)
    image = torch.randint(0, 256, (batch, channels_of_all(models), *size), dtype=torch.uint8, generator=seed)
    to_labels = any(runtime.output == LABELS for runtime in models.values())
    runs = {name: partial(m.labels if to_labels else m.predict, image) for name, m in models.items()}
    progress("timing", 0, None)
    latencies = compare_latency(runs, warmup=5, repeats=repeats, batch=batch)
    rows = []
    for name, runtime in models.items():
        rows.append({"name": name, **_speed(runtime, latencies[name], image)})
        twin = _torch_twin(runtime, models, size)
        if twin is not None:
            rows[-1] |= cost(twin.network, size)
    return [row | _ratios(row, models, rows, batch) for row in rows]


def channels_of_all(models: Mapping[str, Runtime]) -> int:
    """The bands of the images that all of some models take; a UserError for models that differ."""
    found = {runtime.channels: name for name, runtime in models.items()}
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise UserError(f"{first} takes images of {one} bands, {second} of {other}: they cannot see the same image")
    return next(iter(found), 3)


def _ratios(row: Row, models: Mapping[str, Runtime], rows: Sequence[Row], batch: int) -> Row:
    """How much faster than the float file in the same runtime an int8 file is, and GMAC/s where MACs are known."""
    own, found = models[str(row["name"])], {}
    if "quantization" in own.metadata:
        floats = [other for other in rows if _is_float_of(models[str(other["name"])], own)]
        if floats:
            found["speedup"] = floats[0]["latency_ms"] / row["latency_ms"]
    if row.get("macs"):
        found["gmacs_per_s"] = batch * row["macs"] / 1e6 / row["latency_ms"]
    return found


def _is_float_of(other: Runtime, int8: Runtime) -> bool:
    """True for a float file of the same network and size in the same runtime."""
    same = all(getattr(other, key) == getattr(int8, key) for key in ("name", "size", "num_classes"))
    return same and "quantization" not in other.metadata and "network" in other.metadata


def operators_of(models: Mapping[str, Runtime], size: tuple[int, int], batch: int = 1) -> dict[str, dict[str, float]]:
    """The share of the time (percent) that each operator takes, of every ONNX file in ONNX Runtime."""
    files = {name: model for name, model in models.items() if isinstance(model, OnnxRuntime)}
    image = torch.zeros(batch, channels_of_all(files), *size, dtype=torch.uint8)
    return {name: operator_times(model.path, {"image": model.to_input(image)}) for name, model in files.items()}


def _speed(runtime: Runtime, latency: Latency, image: Tensor) -> Row:
    return {
        "latency_ms": latency.median_ms,
        "latency_iqr_ms": latency.iqr_ms,
        "latency_p90_ms": latency.p90_ms,
        "latency_p99_ms": latency.p99_ms,
        "latency_min_ms": latency.min_ms,
        "noisy": latency.noisy,
        "fps": latency.fps,
        "file_bytes": runtime.file_size,
        "peak_memory_mib": measure_memory(partial(_afresh, runtime, image), runtime.device).mib,
        "runtime": runtime.name,
        "size": list(runtime.size or image.shape[-2:]),
    }


def _torch_twin(runtime: Runtime, models: Mapping[str, Runtime], size: tuple[int, int]) -> TorchRuntime | None:
    """Where parameters and MACs can be counted: an ONNX file has those of its network, if that is compared too."""
    if isinstance(runtime, TorchRuntime):
        return runtime
    twins = (m for m in models.values() if isinstance(m, TorchRuntime))
    name = runtime.metadata.get("network")
    return next((t for t in twins if runtime.size == size and type(t.network).__name__ == name), None)


def _afresh(runtime: Runtime, image: Tensor) -> None:
    """Load and predict once: memory kept from earlier calls would not be seen."""
    runtime.again().labels(image)


def cost(network: nn.Module, size: tuple[int, int]) -> Row:
    """Parameters, and MACs of one image of that size."""
    on_cpu = copy.deepcopy(network).cpu().float()
    return {"parameters": count_parameters(network), "macs": count_macs(on_cpu, size)}
