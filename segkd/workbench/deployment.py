"""The student as a file for others: exported to ONNX, and made int8 with images of the training split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from segkd.datasets import SegmentationDataset
from segkd.datasets.calibration import calibration_images as calibration_images
from segkd.deploy.executorch import SUFFIX
from segkd.deploy.onnx import ExportReport, export_onnx
from segkd.deploy.quantize_executorch import quantize_executorch
from segkd.deploy.report import QuantizeReport as QuantizeReport
from segkd.deploy.routes import EXECUTORCH, Choices, find_route, trained_choices
from segkd.deploy.runtimes import OnnxRuntime
from segkd.errors import UserError
from segkd.files import existing_onnx, writable_file, writable_onnx
from segkd.memory import check_inference
from segkd.models import Network
from segkd.training.build import build_dataset, class_names
from segkd.workbench.runs import load_student


def export_run(
    cfg: Mapping[str, Any],
    weights: str | Path,
    size: tuple[int, int],
    out: str | Path | None = None,
    **options: Any,
) -> ExportReport:
    """Write the config's student with these weights as one ONNX file for images of ``size`` (H, W).

    Args:
        out: the file (default: beside the weights, named by the size).
        options: see `segkd.deploy.onnx.export_onnx`.
    """
    network = load_student(cfg, weights)
    weights, (height, width) = Path(weights), size
    check_inference(network.num_classes, size)
    out = writable_onnx(out or weights.with_name(f"{weights.stem}_{height}x{width}.onnx"))
    names, palette = class_names(cfg)
    about = {"palette": palette, "config": config_hash(cfg)}
    return export_onnx(network, out, size, class_names=names, extra=about, **options)


def config_hash(cfg: Mapping[str, Any]) -> str:
    """The SHA-256 of a config's content, by which a file says of which training it is."""
    return hashlib.sha256(json.dumps(cfg, sort_keys=True, default=str).encode()).hexdigest()


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
    route: str = "onnxruntime",
    threads: int = 2,
    **choices: Any,
) -> QuantizeReport:
    """Make an int8 file of the float32 file ``source``, calibrated on ``images`` images spread over the data set.

    Args:
        out: the file (default: beside the source, ..._int8.onnx or as the route has it).
        route: for what: "onnxruntime", "openvino" or "tensorrt".
        choices: see `segkd.deploy.routes.Choices`.
    """
    if route == EXECUTORCH:
        raise UserError("executorch makes its file of a network, not of an ONNX file: name the student's weights")
    way = find_route(route)
    model = open_float32(source, dataset.num_classes)
    out = Path(out or model.path.with_name(model.path.stem + way.ending))
    suffix = Path(way.ending).suffix
    if out.suffix != suffix:
        raise UserError(f"the file for {route} is an {suffix} file, not {out.name}")
    out = writable_file(out)
    if out.resolve() == model.path.resolve():
        raise UserError(f"cannot write {out}: it is the float32 file itself; choose another name")
    calibration = calibration_images(dataset, model.size, images)
    chosen, _ = trained_choices(model.path, route, Choices(**choices))
    return way.quantize(model.path, out, calibration, chosen, images, threads)


def quantize_network(
    network: Network,
    dataset: SegmentationDataset,
    out: str | Path,
    size: tuple[int, int],
    *,
    op_types: str | None = None,
    images: int = 16,
    threads: int = 2,
    class_names: Sequence[str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> QuantizeReport:
    """Make an int8 file for phones (.pte, ExecuTorch) of a network, for images of ``size`` (H, W).

    Args:
        op_types: see `segkd.deploy.quantize_executorch`.
        images: so many of the data set, at equal distances, for calibration.
        class_names, extra: what the file says of itself.
    """
    if network.num_classes != dataset.num_classes:
        raise UserError(f"the network has {network.num_classes} classes, but the data set has {dataset.num_classes}")
    if Path(out).suffix != SUFFIX:
        raise UserError(f"the file for executorch is a {SUFFIX} file, not {Path(out).name}")
    check_inference(network.num_classes, size)
    calibration = calibration_images(dataset, size, images)
    return quantize_executorch(
        network, writable_file(out), size, calibration, class_names=class_names, extra=extra, op_types=op_types,
        max_images=images, threads=threads,
    )  # fmt: skip


def quantize_weights(
    cfg: Mapping[str, Any],
    weights: str | Path,
    size: tuple[int, int],
    out: str | Path | None = None,
    **options: Any,
) -> QuantizeReport:
    """Make an int8 file for phones of the config's student; see ``quantize_network``.

    Args:
        out: the file (default: beside the weights, named by the size).
        options: op_types, images, threads, as there.
    """
    if Path(weights).suffix not in (".pth", ".pt"):
        raise UserError(f"for executorch name the student's weights (.pth), of which it is made, not {weights}")
    network, (names, palette) = load_student(cfg, weights), class_names(cfg)
    out = out or Path(weights).with_name(f"{Path(weights).stem}_{size[0]}x{size[1]}_int8{SUFFIX}")
    about = {"palette": palette, "config": config_hash(cfg)}
    return quantize_network(network, build_dataset(cfg, "train"), out, size, class_names=names, extra=about, **options)


def open_float32(source: str | Path, num_classes: int) -> OnnxRuntime:
    """A float32 ONNX file for that many classes; any other file is a UserError."""
    path = existing_onnx(source)
    model = OnnxRuntime(path)
    if any(node.op_type == "QuantizeLinear" for node in onnx.load(str(path)).graph.node):
        raise UserError(f"{path} is int8 already; give the float32 file that `segkd export` wrote")
    if model.num_classes != num_classes:
        raise UserError(f"{path} predicts {model.num_classes} classes, but the config's data set has {num_classes}")
    return model
