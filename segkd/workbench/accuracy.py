"""int8 files within a stated loss of mIoU: the layers that lose most stay float, as few of them as will do."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from segkd.datasets import SegmentationDataset
from segkd.deploy.report import QuantizeReport
from segkd.deploy.routes import find_route
from segkd.deploy.runtimes import LABELS, OnnxRuntime
from segkd.deploy.sensitivity import LayerLoss, layer_losses
from segkd.errors import UserError
from segkd.workbench import Progress, Row, silent
from segkd.workbench.comparison import score_model
from segkd.workbench.deployment import calibration_images, quantize_file

COMPARED = 4  # images on which the layers' losses are measured


@dataclass(frozen=True)
class Within:
    """An int8 file, and how it came to be.

    Attributes:
        report: the file's.
        rows: every try: ``kept`` (number of float layers), ``miou``, ``drop`` (behind the float file), in percent.
        losses: what each layer loses alone, the worst first; empty where all of them could be int8.
        kept: names of the layers that stayed float.
    """

    report: QuantizeReport
    rows: list[Row]
    losses: list[LayerLoss]
    kept: tuple[str, ...]


def measure_layers(
    source: str | Path,
    training: SegmentationDataset,
    *,
    images: int = 16,
    threads: int = 2,
    progress: Progress = silent,
    **choices: Any,
) -> list[LayerLoss]:
    """What each layer of a float file of logits loses alone in int8, the worst first, on training images.

    Args:
        images: calibration images; the first few are those on which logits are compared.
        choices: see `segkd.deploy.routes.Choices`.
    """
    runtime = OnnxRuntime(source, threads)
    if runtime.output == LABELS:
        raise UserError(f"{source} gives labels; the layers' losses are measured on logits: give the file of those")
    compared = list(calibration_images(training, runtime.size, min(images, COMPARED)))
    with tempfile.TemporaryDirectory(prefix="segkd-") as folder:
        progress("quantising", 0, None)
        int8 = quantize_file(source, training, Path(folder) / "int8.onnx", images=images, threads=threads, **choices)
        return layer_losses(source, int8.path, compared, threads, partial(progress, "measuring layers"))


def quantize_within(
    source: str | Path,
    training: SegmentationDataset,
    validation: SegmentationDataset,
    out: str | Path | None = None,
    *,
    max_drop: float = 0.5,
    images: int = 16,
    route: str = "onnxruntime",
    threads: int = 2,
    progress: Progress = silent,
    **choices: Any,
) -> Within:
    """Make an int8 file whose mIoU on ``validation`` is at most ``max_drop`` (percent) behind the float file's.

    First all layers are int8; if that loses too much, the 1, 2, 4, ... layers that lose most alone stay float.

    Args:
        source: the float file of logits.
        training: of it come the calibration images.
        out, images, route, choices: see `segkd.workbench.deployment.quantize_file`.

    Raises:
        UserError: not even with all layers but one in float is the loss within the limit; nothing is written.
    """
    from segkd.deploy.formats import open_file

    out = Path(out or Path(source).with_name(Path(source).stem + find_route(route).ending))
    score = partial(score_model, dataset=validation, workers=0)
    float_miou = score(OnnxRuntime(source, threads, resize=True), progress=partial(progress, "scoring float")).miou
    rows: list[Row] = []
    losses: list[LayerLoss] = []
    with tempfile.TemporaryDirectory(prefix="segkd-") as folder:
        count = 0
        while True:
            kept = tuple(loss.node for loss in losses[:count])
            progress(f"quantising, {count} layers in float", 0, None)
            file = Path(folder) / f"kept_{count}{out.suffix}"
            shared = dict(images=images, route=route, threads=threads, **choices)
            quantize_file(source, training, file, keep_float=kept, **shared)
            runtime = open_file(file, threads, resize=True)
            miou = score(runtime, progress=partial(progress, f"scoring, {count} layers in float")).miou
            rows.append({"kept": count, "miou": miou, "drop": float_miou - miou})
            if float_miou - miou <= max_drop:
                break
            losses = losses or measure_layers(source, training, images=images, threads=threads, progress=progress)
            count = 2 * count or 1
            if count >= len(losses):
                best = min(rows, key=lambda row: float(row["drop"]))
                raise UserError(
                    f"{source}: int8 loses {best['drop']:.2f} mIoU at best ({best['kept']} layers in float), more than "
                    f"{max_drop:g}; try more calibration images, another method, or quantization-aware training"
                )
    report = quantize_file(source, training, out, keep_float=kept, **shared)
    return Within(replace(report, path=str(out)), rows, losses, kept)


def worst(losses: Sequence[LayerLoss], count: int) -> tuple[str, ...]:
    """The names of the ``count`` layers that lose most."""
    return tuple(loss.node for loss in losses[:count])
