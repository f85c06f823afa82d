"""A float32 ONNX file as an int8 one: QDQ with uint8 activations and int8 weights, for ONNX Runtime on CPUs.

uint8 activations and not int8: on x64 ONNX Runtime does not fuse signed ones into integer kernels.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from segkd.deploy.equalize import equalize
from segkd.deploy.graphs import FLOAT_COMPUTE, note_in
from segkd.deploy.onnx import quiet
from segkd.deploy.pairs import drop_needless_pairs_in
from segkd.deploy.pooling import BUFFER_PREFIX
from segkd.deploy.report import Images, QuantizeError, QuantizeReport, compare, digest, take_images
from segkd.deploy.rounding import Rounder, improve_rounding
from segkd.deploy.runtimes import TENSORRT, OnnxRuntime, session_options
from segkd.deploy.tail import PREFIX as TAIL_PREFIX
from segkd.deploy.trained import check_trained, overrides
from segkd.errors import UserError, first_line, nearest
from segkd.fakequant import Range
from segkd.files import replacing

#: what multiplies, and the activations that a convolution's range covers: they leave the graph where they follow one
CONV_OPS = ("Conv", "MatMul", "Gemm", "Relu", "Clip")
METHODS = {
    "percentile": CalibrationMethod.Percentile,
    "minmax": CalibrationMethod.MinMax,
    "moving_average": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
}
INT8_COMPUTE = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger")
IMPROVEMENTS = ("equalize", "bias", "adaround")
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}


def quantize_onnx(
    source: str | Path,
    target: str | Path,
    calibration: Iterable[Images],
    *,
    op_types: str | Sequence[str] = "conv",
    method: str = "percentile",
    percentile: float = 99.99,
    per_channel: bool = True,
    reduce_range: bool = True,
    symmetric: bool = False,
    keep_float: Sequence[str] = (),
    improve: Sequence[str] = (),
    ranges: Mapping[str, Range] | None = None,
    max_images: int = 32,
    threads: int = 2,
) -> QuantizeReport:
    """Quantise the file ``source`` (from `export_onnx`) into ``target``.

    Args:
        calibration: batches (N, 3, H, W) uint8 RGB of training images, of the file's size; the first ``max_images``
            images are used, one at a time.
        op_types: "conv" (convolutions and matrix products: the safe choice), "all" (everything that ONNX Runtime can
            quantise), or a list of ONNX operators.
        method: how a tensor's range is chosen: "percentile", "entropy", "minmax", or "moving_average" (mean of the
            images' minima and maxima).
        percentile: share of the values, in percent, that the range keeps (for "percentile").
        per_channel: one weight scale per output channel.
        reduce_range: 7-bit weights: right on every CPU. With 8 bits the 16-bit sums of products saturate on x64 CPUs
            without VNNI (``light_fpn`` on EfficientNet-Lite0 lost 2.5 mIoU there, with 7 bits 0.3).
        symmetric: int8 activations around zero and float biases, as TensorRT wants them (`segkd.deploy.tensorrt`).
        keep_float: names of nodes that stay float.
        improve: of ``IMPROVEMENTS``, any: "equalize" (`segkd.deploy.equalize`) before, "bias" and "adaround"
            (`segkd.deploy.rounding`) after.
        ranges: how each value is rounded, by its name, where that was trained (`segkd.deploy.trained`); ``method`` and
            ``percentile`` then mean nothing.

    Raises:
        UserError: no calibration image, one of another size, an unknown method, or a source that is missing.
        QuantizeError: ONNX Runtime failed. In no case is anything left at ``target`` but what was there.
    """
    if method not in METHODS:
        raise UserError(f"unknown calibration method {method!r}; {nearest(method, METHODS)}")
    for name in improve:
        if name not in IMPROVEMENTS:
            raise UserError(f"unknown improvement {name!r}; {nearest(name, IMPROVEMENTS)}")
    runtime = OnnxRuntime(source, threads)
    images = take_images(calibration, max_images, runtime, source)
    types = _op_types(op_types)
    method = method if ranges is None else "minmax"  # the quickest: what it finds is not used
    named = f"percentile {percentile}" if method == "percentile" else method
    named = named if ranges is None else "trained"
    options = {
        "per_channel": per_channel,
        "reduce_range": reduce_range,
        "activation_type": QuantType.QInt8 if symmetric else QuantType.QUInt8,
        "extra_options": _options(method, percentile) | (SYMMETRIC if symmetric else {}),
    }
    with replacing(target) as temporary:
        _quantize(runtime, temporary, images, types, METHODS[method], options, keep_float, improve, ranges)
        about: dict[str, Any] = {"improve": list(improve)} if improve else {}
        about |= {"method": named, "images": len(images), "calibration": digest(images)}
        note_in(temporary, {"quantization": {"route": TENSORRT if symmetric else "onnxruntime", **about}})
        int8 = OnnxRuntime(temporary, threads)
        sqnr, agreement = compare(runtime, int8, images)
        ops = optimised_ops(temporary)
        size = int8.file_size
    return QuantizeReport(
        path=str(target),
        method=named,
        op_types=op_types if isinstance(op_types, str) else ", ".join(op_types),
        float_bytes=runtime.file_size,
        int8_bytes=size,
        images=len(images),
        sqnr_db=sqnr,
        argmax_agreement=agreement,
        int8_ops=sum(number for op, number in ops.items() if op.startswith(INT8_COMPUTE)),
        float_ops=sum(ops.get(op, 0) for op in FLOAT_COMPUTE),
        ops=ops,
    )


def _op_types(choice: str | Sequence[str]) -> list[str] | None:
    if choice == "all":
        return None
    if choice == "conv":
        return list(CONV_OPS)
    if isinstance(choice, str):
        raise UserError(f"op_types must be 'conv', 'all' or a list of ONNX operators, got {choice!r}")
    return list(choice)


def _options(method: str, percentile: float) -> dict[str, Any]:
    # stride 1: one image's activations at a time become a histogram; all at once take gigabytes at 512x1024
    options: dict[str, Any] = {"CalibTensorRangeSymmetric": False, "CalibStridedMinMax": 1}
    if method == "percentile":
        if not 50 < percentile <= 100:
            raise UserError(f"percentile must lie in 50..100, got {percentile}")
        options["CalibPercentile"] = percentile
    elif method == "moving_average":
        options["CalibMovingAverage"] = True
        options["CalibStridedMinMax"] = None  # a plain mean over all images; strides would weight the first most
    return options


class _Reader:
    """Feeds calibration images to ONNX Runtime, one at a time or in the ranges it asks for."""

    def __init__(self, images: Sequence[Tensor], runtime: OnnxRuntime) -> None:
        self.images, self.runtime = images, runtime
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self.images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._rest = iter(self.images[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        image = next(self._rest, None)
        return None if image is None else {"image": self.runtime.to_input(image)}


def _quantize(
    runtime: OnnxRuntime,
    target: Path,
    images: Sequence[Tensor],
    op_types: list[str] | None,
    method: CalibrationMethod,
    options: dict[str, Any],
    keep_float: Sequence[str],
    improve: Sequence[str],
    ranges: Mapping[str, Range] | None,
) -> None:
    with tempfile.TemporaryDirectory(prefix="segkd-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        try:
            with quiet():
                prepare_onnx(runtime.path, prepared)
                model = onnx.load(str(prepared))
                _check_names(model, keep_float)
                if "equalize" in improve:
                    equalize(model)
                    onnx.save_model(model, str(prepared))
                if ranges is not None:
                    options["extra_options"]["TensorQuantOverrides"] = overrides(ranges, model)
                    images = images[:1]
                quantize_static(
                    str(prepared),
                    str(target),
                    _Reader(images, runtime),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=op_types,
                    nodes_to_exclude=[*_kept_float(model), *keep_float],
                    weight_type=QuantType.QInt8,
                    calibrate_method=method,
                    **options,
                )
            if options["extra_options"].get("ActivationSymmetric"):
                drop_needless_pairs_in(target, op_types)
            if ranges is not None:
                check_trained(onnx.load(str(target)), ranges, runtime.path)
            rounder = Rounder(weights="adaround" in improve, bias="bias" in improve)
            if rounder.weights or rounder.bias:
                rounded = onnx.load(str(target))
                improve_rounding(model, rounded, [runtime.to_input(image) for image in images], rounder)
                onnx.save_model(rounded, str(target))
        except (UserError, OSError):  # a full disk is told by whoever writes
            raise
        except Exception as error:  # the quantiser raises whatever its stages raise
            raise QuantizeError(
                f"cannot quantise {runtime.path}: {type(error).__name__}: {first_line(error)}"
            ) from error


def prepare_onnx(source: str | Path, target: str | Path) -> None:
    """Write a float32 file as ONNX Runtime simplifies it before it is quantised; values keep their names."""
    with quiet():
        quant_pre_process(str(source), str(target), skip_symbolic_shape=True)


def _check_names(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Refuse names of nodes that the graph has not."""
    known = [node.name for node in model.graph.node]
    for name in names:
        if name not in known:
            raise UserError(f"no node {name!r} to keep float; {nearest(name, known)}")


def _kept_float(model: onnx.ModelProto) -> list[str]:
    """Nodes that stay float: preprocessing (all before the first convolution), pooling by constant matrices, the tail.

    They cost next to nothing, and quantising them only adds noise at a network's most sensitive places: its input, the
    few values of a pooled map that speak for the whole image, and the logits of which the strongest is taken.
    """
    names, reached = [], {model.graph.input[0].name}
    for node in model.graph.node:
        before_network = node.op_type in ("Gather", "Cast", "Mul", "Sub") and node.input[0] in reached
        if before_network:
            reached.update(node.output)
        pools = node.op_type == "MatMul" and any(BUFFER_PREFIX in name for name in node.input)
        if before_network or pools or node.name.startswith(TAIL_PREFIX):
            names.append(node.name)
    return names


def optimised_ops(path: str | Path) -> dict[str, int]:
    """Nodes by operator in the graph that ONNX Runtime makes of a file on this machine."""
    with tempfile.TemporaryDirectory(prefix="segkd-") as folder:
        optimised = Path(folder) / "optimised.onnx"
        options = session_options(1)
        options.optimized_model_filepath = str(optimised)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(str(optimised)).graph
    return dict(Counter(node.op_type for node in graph.node).most_common())
