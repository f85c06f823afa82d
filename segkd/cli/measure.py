"""Scores and speed of several models side by side: torch weights, ONNX float32, int8."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segkd.cli.common import console, progress_bar, say
from segkd.cli.paths import existing_file
from segkd.datasets import SegmentationDataset
from segkd.deploy.runtimes import OnnxRuntime, Runtime, TorchRuntime, load_runtime
from segkd.distiller import build_teacher
from segkd.errors import UserError
from segkd.evaluation.inference import evaluate
from segkd.evaluation.scores import Scores
from segkd.evaluation.speed import compare_latency, count_macs, count_parameters, measure_memory
from segkd.models import Network, load_weights
from segkd.report.tables import class_table, comparison_table
from segkd.training.build import build_eval_loader, build_student
from segkd.training.state import BEST, LAST, STATE

Row = dict[str, Any]


def open_model(cfg: Mapping[str, Any], file: str | Path, threads: int, resize: bool = False) -> Runtime:
    """An .onnx file as it is, or a student weights file (.pth) in the config's student."""
    path = existing_file(file)
    if path.suffix == ".onnx":
        return load_runtime(path, threads=threads, resize=resize)
    if path.suffix not in (".pth", ".pt"):
        raise UserError(f"{path} is neither weights (.pth) nor an ONNX file (.onnx)")
    return TorchRuntime(load_student(cfg, path).to(device()), threads=threads)


def load_student(cfg: Mapping[str, Any], file: str | Path) -> Network:
    """The config's student with the weights of a file, on the CPU."""
    path = existing_file(file, "weights file")
    if path.name == STATE:
        raise UserError(
            f"{path} is a run's state, to resume from; the student's weights are {LAST} and {BEST} beside it"
        )
    network = build_student(cfg)
    load_weights(network, path)
    return network


def open_teacher(cfg: Mapping[str, Any], threads: int) -> Runtime:
    """The teacher of a distillation's config, with its weights."""
    teacher = cfg["model"].get("teacher")
    if teacher is None:
        raise UserError("the config has no teacher: it trains a network alone")
    return TorchRuntime(build_teacher(teacher).to(device()), threads=threads)


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def image_size(dataset: SegmentationDataset) -> tuple[int, int]:
    """(H, W) of the first image."""
    height, width = dataset[0].label.shape
    return int(height), int(width)


def compare(
    cfg: Mapping[str, Any],
    models: Mapping[str, Runtime],
    dataset: SegmentationDataset,
    split: str,
    timed_at: tuple[int, int] | None,
    count_void: bool = False,
    void_output: bool = False,
) -> list[Row]:
    """Score every model on the data set, and time it at that size (H, W); prints the tables, returns their rows.

    ``count_void`` and ``void_output``: see ``ConfusionMatrix``.
    """
    check_fit(models, dataset, void_output)
    scores = score(cfg, models, dataset, count_void, void_output)
    rows = [{"name": name, **scores_row(s, dataset.class_names)} for name, s in scores.items()]
    if timed_at is not None:
        timed = speed(models, timed_at)
        for row in rows:
            row |= timed[row["name"]]
    say(f"{type(dataset).__name__} {split}, {len(dataset)} images:", style="bold")
    console.print(comparison_table(rows))
    console.print(class_table({name: s.iou for name, s in scores.items()}, dataset.class_names))
    return rows


def check_fit(models: Mapping[str, Runtime], dataset: SegmentationDataset, void_output: bool = False) -> None:
    """Refuse, before the long work, a model of other classes than the data set's, or an ONNX file of another size."""
    own, data = image_size(dataset), type(dataset).__name__
    for name, runtime in models.items():
        if runtime.num_classes != dataset.num_classes + void_output:
            has = f"{dataset.num_classes}{' and void' if void_output else ''}"
            raise UserError(f"{name} predicts {runtime.num_classes} classes, but {data} has {has}")
        if runtime.size not in (None, own) and not runtime.resize:
            raise UserError(
                f"{name} takes images of {text(runtime.size)} (HxW), but those of {data} are {text(own)}; "
                f"export one with --size {text(own)}, or add --resize"
            )


def text(size: Sequence[int] | None) -> str:
    """``HxW``."""
    return "x".join(map(str, size or ()))


def score(
    cfg: Mapping[str, Any],
    models: Mapping[str, Runtime],
    dataset: SegmentationDataset,
    count_void: bool = False,
    void_output: bool = False,
) -> dict[str, Scores]:
    """Scores of every model over the whole data set."""
    scores = {}
    for name, runtime in models.items():
        with progress_bar(f"scoring {name}", len(dataset)) as bar:
            advance = partial(bar.advance, bar.tasks[0].id)
            with closing(build_eval_loader(cfg, dataset)) as batches:
                scores[name] = evaluate(
                    runtime.predict,
                    batches,
                    dataset.num_classes,
                    advance,
                    count_void=count_void,
                    void_output=void_output,
                )
    return scores


def speed(models: Mapping[str, Runtime], size: tuple[int, int], batch: int = 1, repeats: int = 30) -> dict[str, Row]:
    """Latency (interleaved), cost and peak memory of every model for images (batch, 3, H, W)."""
    image = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    runs = {name: partial(runtime.predict, image) for name, runtime in models.items()}
    with console.status("timing"):
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
            "peak_memory_mib": measure_memory(partial(_afresh, runtime, image), runtime.device).mib,
            "runtime": runtime.name,
            "size": list(runtime.size or size),
        }
        twin = _torch_twin(runtime, models, size)
        if twin is not None:
            rows[name] |= cost(twin.network, size)
    return rows


def _torch_twin(runtime: Runtime, models: Mapping[str, Runtime], size: tuple[int, int]) -> TorchRuntime | None:
    """Where parameters and MACs can be counted: an ONNX file has those of its network, if that is compared too."""
    if isinstance(runtime, TorchRuntime):
        return runtime
    twins = (m for m in models.values() if isinstance(m, TorchRuntime))
    name = runtime.metadata.get("network")
    return next((t for t in twins if runtime.size == size and type(t.network).__name__ == name), None)


def _afresh(runtime: Runtime, image: Tensor) -> None:
    """Load and predict once: memory kept from earlier calls would not be seen."""
    if isinstance(runtime, OnnxRuntime):
        threads = runtime.session.get_session_options().intra_op_num_threads
        OnnxRuntime(runtime.path, threads, runtime.resize).predict(image)
    else:
        copy.deepcopy(runtime).predict(image)


def cost(network: nn.Module, size: tuple[int, int]) -> Row:
    """Parameters, and MACs of one image of that size."""
    on_cpu = copy.deepcopy(network).cpu().float()
    return {"parameters": count_parameters(network), "macs": count_macs(on_cpu, size)}


def scores_row(scores: Scores, class_names: Sequence[str]) -> Row:
    """Scores as they go into tables and JSON."""
    content = scores.as_dict(class_names)
    return {"miou": scores.miou, **content}
