"""Scores and speed of several models side by side: torch weights, ONNX float32, int8."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segkd.cli.common import progress_bar
from segkd.datasets import SegmentationDataset
from segkd.deploy.runtimes import Runtime, TorchRuntime, load_runtime
from segkd.engine.build import build_eval_loader, build_student
from segkd.errors import UserError
from segkd.evaluation.inference import evaluate
from segkd.evaluation.scores import Scores
from segkd.evaluation.speed import compare_latency, count_macs, count_parameters, measure_memory
from segkd.models import load_weights

Row = dict[str, Any]


def open_model(cfg: Mapping[str, Any], file: str | Path, threads: int, resize: bool = False) -> Runtime:
    """An .onnx file as it is, or a student weights file (.pth) in the config's student."""
    path = Path(file)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    if path.suffix == ".onnx":
        return load_runtime(path, threads=threads, resize=resize)
    if path.suffix not in (".pth", ".pt"):
        raise UserError(f"{path} is neither weights (.pth) nor an ONNX file (.onnx)")
    network = build_student(cfg)
    load_weights(network, path)
    return TorchRuntime(network.to(device()), threads=threads)


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def score(cfg: Mapping[str, Any], models: Mapping[str, Runtime], dataset: SegmentationDataset) -> dict[str, Scores]:
    """Scores of every model over the whole data set."""
    scores = {}
    for name, runtime in models.items():
        check_class_count(runtime, dataset, name)
        with progress_bar(f"scoring {name}", len(dataset)) as bar:
            advance = partial(bar.advance, bar.tasks[0].id)
            scores[name] = evaluate(runtime.predict, build_eval_loader(cfg, dataset), dataset.num_classes, advance)
    return scores


def check_class_count(runtime: Runtime, dataset: SegmentationDataset, name: str) -> None:
    """Refuse a model with another number of classes than the data set."""
    if runtime.num_classes != dataset.num_classes:
        raise UserError(
            f"{name} predicts {runtime.num_classes} classes, but {type(dataset).__name__} has {dataset.num_classes}"
        )


def speed(models: Mapping[str, Runtime], size: tuple[int, int], batch: int = 1, repeats: int = 30) -> dict[str, Row]:
    """Latency (interleaved), cost and peak memory of every model for images (batch, 3, H, W)."""
    image = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    runs = {name: _runner(runtime, image) for name, runtime in models.items()}
    latencies = compare_latency(runs, warmup=5, repeats=repeats, batch=batch)
    rows = {}
    for name, runtime in models.items():
        latency = latencies[name]
        rows[name] = {
            "latency_ms": latency.median_ms,
            "latency_iqr_ms": latency.iqr_ms,
            "latency_p90_ms": latency.p90_ms,
            "fps": latency.fps,
            "file_bytes": runtime.file_size,
            "peak_memory_mib": measure_memory(runs[name], device()).mib,
            "runtime": runtime.name,
            "size": list(runtime.size or size),
        }
        if isinstance(runtime, TorchRuntime):
            rows[name] |= cost(runtime.network, size)
    return rows


def _runner(runtime: Runtime, image: Tensor) -> Any:
    return lambda: runtime.predict(image)


def cost(network: nn.Module, size: tuple[int, int]) -> Row:
    """Parameters, and MACs of one image of that size."""
    on_cpu = copy.deepcopy(network).cpu().float()
    return {"parameters": count_parameters(network), "macs": count_macs(on_cpu, size)}


def inherit_cost(rows: Sequence[Row]) -> None:
    """ONNX files of a network have its parameters and MACs; fill them in from the torch row of the same table."""
    source = next((row for row in rows if "parameters" in row), None)
    for row in rows:
        if source is not None:
            row.setdefault("parameters", source["parameters"])
            row.setdefault("macs", source["macs"])


def scores_row(scores: Scores, class_names: Sequence[str]) -> Row:
    """Scores as they go into tables and JSON."""
    content = scores.as_dict(class_names)
    return {"miou": scores.miou, **content}
