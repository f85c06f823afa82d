"""The student as a file for others: exported to ONNX, and made int8 with images of the training split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from segkd.datasets import SegmentationDataset
from segkd.deploy.onnx import ExportReport, export_onnx
from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.report import QuantizeReport as QuantizeReport
from segkd.deploy.runtimes import OnnxRuntime
from segkd.errors import UserError
from segkd.files import existing_onnx, writable_onnx
from segkd.images import resize_image
from segkd.memory import check_inference
from segkd.training.build import build_dataset, class_names
from segkd.workbench.runs import load_student

WEIGHT_BITS = (7, 8)


def export_run(
    cfg: Mapping[str, Any],
    weights: str | Path,
    size: tuple[int, int],
    out: str | Path | None = None,
    *,
    include_preprocess: bool = True,
) -> ExportReport:
    """Write the config's student with these weights as one ONNX file for images of ``size`` (H, W).

    Args:
        out: the file (default: beside the weights, named by the size).
        include_preprocess: the file takes uint8 RGB images; else images already preprocessed.
    """
    network = load_student(cfg, weights)
    weights, (height, width) = Path(weights), size
    check_inference(network.num_classes, size)
    out = writable_onnx(out or weights.with_name(f"{weights.stem}_{height}x{width}.onnx"))
    names, palette = class_names(cfg)
    return export_onnx(
        network, out, size, include_preprocess=include_preprocess, class_names=names, extra={"palette": palette}
    )


def quantize_run(
    cfg: Mapping[str, Any], source: str | Path, out: str | Path | None = None, **options: Any
) -> QuantizeReport:
    """Make an int8 file of ``source``, calibrated on the config's training split; ``options`` as in `quantize_file`."""
    open_float32(source, len(class_names(cfg)[0]))
    return quantize_file(source, build_dataset(cfg, "train"), out, **options)


def quantize_file(
    source: str | Path,
    dataset: SegmentationDataset,
    out: str | Path | None = None,
    *,
    images: int = 16,
    op_types: str | Sequence[str] = "all",
    method: str = "percentile",
    weight_bits: int = 7,
    threads: int = 2,
) -> QuantizeReport:
    """Make an int8 file of the float32 file ``source``, calibrated on ``images`` images spread over the data set.

    Args:
        out: the file (default: beside the source, ..._int8.onnx).
        op_types, method: see `segkd.deploy.quantize.quantize_onnx`.
        weight_bits: 7, right on every CPU, or 8, for those whose int8 sums do not saturate (x64 with VNNI, Arm).
    """
    if weight_bits not in WEIGHT_BITS:
        raise UserError(f"weights have 7 or 8 bits, not {weight_bits!r}")
    model = open_float32(source, dataset.num_classes)
    out = writable_onnx(out or model.path.with_name(model.path.stem + "_int8.onnx"))
    if out.resolve() == model.path.resolve():
        raise UserError(f"cannot write {out}: it is the float32 file itself; choose another name")
    calibration = calibration_images(dataset, model.size, images)
    return quantize_onnx(
        model.path,
        out,
        calibration,
        op_types=op_types,
        method=method,
        max_images=images,
        threads=threads,
        reduce_range=weight_bits == 7,
    )


def open_float32(source: str | Path, num_classes: int) -> OnnxRuntime:
    """A float32 ONNX file for that many classes; any other file is a UserError."""
    path = existing_onnx(source)
    model = OnnxRuntime(path)
    if any(node.op_type == "QuantizeLinear" for node in onnx.load(str(path)).graph.node):
        raise UserError(f"{path} is int8 already; give the float32 file that `segkd export` wrote")
    if model.num_classes != num_classes:
        raise UserError(f"{path} predicts {model.num_classes} classes, but the config's data set has {num_classes}")
    return model


def calibration_images(dataset: SegmentationDataset, size: tuple[int, int] | None, count: int) -> Iterator[Tensor]:
    """``count`` images (1, 3, H, W) uint8 at equal distances over the whole set, resized to ``size`` if given."""
    count = min(count, len(dataset))
    for k in range(count):
        image = torch.from_numpy(dataset[k * len(dataset) // count].image).permute(2, 0, 1)[None]
        yield resize_image(image, size or image.shape[-2:]).contiguous()
