"""The machine's practical peak: what one large, plain convolution reaches in ONNX Runtime, in float32 and in int8."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from segkd.deploy.graphs import Value
from segkd.deploy.runtimes import CPU, session_options

CHANNELS, SIDE, KERNEL = 256, 64, 3
PROFILED = 5  # calls
GMAC = CHANNELS * CHANNELS * KERNEL * KERNEL * SIDE * SIDE / 1e9  # of the convolution


def measure_peaks(threads: int = 2, repeats: int = 9) -> dict[str, float]:
    """The best GMAC/s of a 3x3 convolution of 256 channels at 64x64, by "float32" and "int8" (uint8 by int8)."""
    calls = {name: _call(model, threads) for name, model in (("float32", _float()), ("int8", _int8()))}
    best = dict.fromkeys(calls, 0.0)
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = max(best[name], GMAC / (time.perf_counter() - start))
    return best


def _call(model: onnx.ModelProto, threads: int) -> Callable[[], object]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(threads), providers=[CPU])
    given = session.get_inputs()[0]
    value = np.ones((1, CHANNELS, SIDE, SIDE), np.uint8 if given.type == "tensor(uint8)" else np.float32)

    def call() -> object:
        return session.run(None, {given.name: value})

    call()
    return call


def _model(nodes: list[onnx.NodeProto], kind: int, constants: Mapping[str, Value]) -> onnx.ModelProto:
    shape = [1, CHANNELS, SIDE, SIDE]
    given, made = (helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y"))
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "peak", [given], [made], initializer=stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _float() -> onnx.ModelProto:
    weight = np.full((CHANNELS, CHANNELS, KERNEL, KERNEL), 0.01, np.float32)
    return _model([helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], TensorProto.FLOAT, {"w": weight})


def _int8() -> onnx.ModelProto:
    weight = np.ones((CHANNELS, CHANNELS, KERNEL, KERNEL), np.int8)
    constants: dict[str, Value] = {
        "w": weight,
        "s": np.array(0.01, np.float32),
        "z": np.array(0, np.uint8),
        "v": np.zeros(CHANNELS, np.int8),
        "t": np.full(CHANNELS, 0.01, np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "t", "v"], ["wf"], axis=0),
        helper.make_node("Conv", ["xf", "wf"], ["yf"], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["yf", "s", "z"], ["y"]),
    ]
    return _model(nodes, TensorProto.UINT8, constants)


def operator_times(path: str | Path, given: Mapping[str, Value]) -> dict[str, float]:
    """The share of the time that each operator of a file takes in ONNX Runtime, in percent, the largest first."""
    with tempfile.TemporaryDirectory(prefix="segkd-") as folder:
        options = session_options(1)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=[CPU])
        for _ in range(PROFILED):
            session.run(None, dict(given))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    total: dict[str, float] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
            op = event["args"]["op_name"]
            total[op] = total.get(op, 0.0) + event["dur"]
    whole = sum(total.values()) or 1.0
    return {op: 100 * spent / whole for op, spent in sorted(total.items(), key=lambda item: -item[1])}
