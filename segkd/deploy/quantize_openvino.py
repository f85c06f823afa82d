"""A float32 ONNX file as an int8 file of OpenVINO (.xml beside .bin), by NNCF; needs the extra "openvino"."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx

from segkd.deploy.onnx import quiet
from segkd.deploy.openvino import OpenVinoRuntime, import_extra
from segkd.deploy.report import Images, QuantizeError, QuantizeReport, compare, digest, take_images
from segkd.deploy.runtimes import METADATA_KEY, OnnxRuntime
from segkd.errors import UserError, nearest
from segkd.files import replacing

#: layers of OpenVINO's compiled graph that convolve or multiply
COMPUTE = ("Convolution", "Deconvolution", "MatMul", "FullyConnected", "GroupConvolution")
INT8 = ("i8", "u8")
PRESETS = ("mixed", "performance")


def quantize_openvino(
    source: str | Path,
    target: str | Path,
    calibration: Iterable[Images],
    *,
    preset: str = "mixed",
    transformer: bool | None = None,
    weight_bits: int = 7,
    keep_float: Sequence[str] = (),
    max_images: int = 32,
    threads: int = 2,
) -> QuantizeReport:
    """Quantise the file ``source`` (from `export_onnx`) into ``target`` (.xml) and its weights beside it (.bin).

    Args:
        calibration: batches (N, 3, H, W) uint8 RGB of training images; the first ``max_images`` are used.
        preset: "mixed" (unsigned activations with a zero point) or "performance" (around zero).
        transformer: NNCF's treatment of attention; found by the graph's operators unless given.
        weight_bits: 7, right on every CPU, or 8, where sums do not saturate (x64 with VNNI, Arm).
        keep_float: names of nodes that stay float.

    Raises:
        UserError: OpenVINO or NNCF missing, no calibration image, one of another size.
        QuantizeError: NNCF failed. Nothing is left at ``target`` but what was there.
    """
    openvino, nncf = import_extra("openvino"), import_extra("nncf")
    runtime = OpenVinoRuntime(source, threads)
    images = take_images(calibration, max_images, runtime, source)
    if transformer is None:
        transformer = any(node.op_type == "Softmax" for node in onnx.load(str(source)).graph.node)
    kept = _own_names(runtime.model, keep_float)
    fed = [OnnxRuntime(source, threads).to_input(image) for image in images]
    try:
        with quiet():
            model = nncf.quantize(
                runtime.model.clone(),
                nncf.Dataset(fed),
                preset=nncf.QuantizationPreset(preset),
                subset_size=len(fed),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    overflow_fix=nncf.OverflowFix.ENABLE if weight_bits == 7 else nncf.OverflowFix.DISABLE
                ),
                model_type=nncf.ModelType.TRANSFORMER if transformer else None,
                ignored_scope=nncf.IgnoredScope(names=kept) if kept else None,
            )
    except Exception as error:  # NNCF raises whatever its stages raise
        reason = str(error).strip().splitlines()[0]
        raise QuantizeError(f"cannot quantise {source}: {type(error).__name__}: {reason}") from error
    about = {"route": "openvino", "method": preset, "images": len(images), "calibration": digest(images)}
    model.set_rt_info(json.dumps({**runtime.metadata, "quantization": about}), [METADATA_KEY])
    save_openvino(openvino, model, target)
    int8 = OpenVinoRuntime(target, threads)
    sqnr, agreement = compare(runtime, int8, images)
    layers = compiled_layers(int8, (1, *fed[0].shape[1:]))
    return QuantizeReport(
        path=str(target),
        method=f"NNCF {preset}{', transformer' if transformer else ''}",
        op_types="all",
        float_bytes=runtime.file_size,
        int8_bytes=int8.file_size,
        images=len(images),
        sqnr_db=sqnr,
        argmax_agreement=agreement,
        int8_ops=sum(layers[key] for key in layers if key[0] in COMPUTE and key[1] in INT8),
        float_ops=sum(layers[key] for key in layers if key[0] in COMPUTE and key[1] not in INT8),
        ops=dict(Counter({kind: n for (kind, _), n in layers.items()})),
        route="openvino",
    )


def _own_names(model: Any, nodes: Sequence[str]) -> list[str]:
    """What OpenVINO calls nodes of the ONNX graph: a convolution with a bias becomes two operations."""
    known = {operation.get_friendly_name() for operation in model.get_ops()}
    names = []
    for node in nodes:
        own = [name for name in (node, f"{node}/WithoutBiases") if name in known]
        if not own:
            raise UserError(f"no node {node!r} to keep float; {nearest(node, known)}")
        names += own
    return names


def save_openvino(openvino: Any, model: Any, target: str | Path) -> None:
    """Write both files of a model, each whole or not at all."""
    target = Path(target)
    with (
        tempfile.TemporaryDirectory(prefix="segkd-") as folder,
        replacing(target.with_suffix(".bin")) as weights,
        replacing(target) as graph,
    ):
        openvino.save_model(model, str(Path(folder) / "model.xml"), compress_to_fp16=False)
        shutil.copyfile(Path(folder) / "model.bin", weights)
        shutil.copyfile(Path(folder) / "model.xml", graph)


def compiled_layers(runtime: OpenVinoRuntime, shape: tuple[int, ...]) -> Counter[tuple[str, str]]:
    """Layers of the graph as OpenVINO runs it here, by kind and by the precision in which they compute."""
    about = [node.get_rt_info() for node in runtime.compile(shape).get_runtime_model().get_ops()]
    return Counter((str(item["layerType"].value), str(item["runtimePrecision"].value)) for item in about)
