"""An int8 ONNX file as TensorRT reads it: explicit Q/DQ with zero points of 0, int8 throughout, biases in float.

Accuracy is judged in ONNX Runtime, which computes what the file says; its speed there says nothing (x64 CPUs have no
fast kernels for signed activations), and TensorRT itself is needed to build the engine (``tools/build_engine.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from segkd.deploy.graphs import FLOAT_COMPUTE, constant, makers, rounded_layers
from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.report import Images, QuantizeError, QuantizeReport
from segkd.files import replacing

#: axis of the output channels in the weights of an operator
CHANNELS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": 1}


def quantize_tensorrt(
    source: str | Path, target: str | Path, calibration: Iterable[Images], *, op_types: str | Sequence[str] = "conv",
    method: str = "percentile", percentile: float = 99.99, max_images: int = 32, threads: int = 2, **options: Any
) -> QuantizeReport:  # fmt: skip
    """Quantise the file ``source`` into ``target`` for TensorRT; arguments as in `segkd.deploy.quantize.quantize_onnx`.

    Weights have 8 bits: Jetsons and GPUs sum in 32.

    Raises:
        QuantizeError: ONNX Runtime failed, or the file is not as TensorRT wants it.
    """
    with replacing(target) as temporary:
        report = quantize_onnx(
            source, temporary, calibration, op_types=op_types, method=method, percentile=percentile,
            max_images=max_images, threads=threads, symmetric=True, per_channel=True, reduce_range=False, **options,
        )  # fmt: skip
        model = onnx.load(str(temporary))
        if problems := list(problems_of(model)):
            raise QuantizeError(f"{source}: not as TensorRT wants it: {problems[0]} ({len(problems)} such places)")
    int8, floats = count_quantised(model)
    return replace(report, path=str(target), route="tensorrt", int8_ops=int8, float_ops=floats)


def problems_of(model: onnx.ModelProto) -> Iterator[str]:
    """What TensorRT would refuse or compute otherwise in a graph with Q/DQ, a line each."""
    made = makers(model)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constant(model, node.input[2]) if len(node.input) > 2 else None
            if zero is not None and (zero.dtype.name != "int8" or zero.any()):
                yield f"{node.name} has {zero.dtype.name} values with zero point {zero.ravel()[0]}, not int8 with 0"
        if node.op_type in CHANNELS:
            bias = made.get(node.input[2]) if len(node.input) > 2 else None
            if bias is not None and bias.op_type == "DequantizeLinear":
                yield f"{node.name} has a quantised bias"


def count_quantised(model: onnx.ModelProto) -> tuple[int, int]:
    """How many convolutions and products have Q/DQ before both operands, and how many have not."""
    nodes = [node for node in model.graph.node if node.op_type in FLOAT_COMPUTE]
    int8 = len(rounded_layers(model))
    return int8, len(nodes) - int8
