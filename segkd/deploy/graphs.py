"""Small helpers for ONNX graphs: attributes, makers of values, values seen in a run, nodes that no output needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from segkd.deploy.runtimes import CPU, METADATA_KEY, session_options

Value = NDArray[Any]
#: operators that convolve or multiply, in float
FLOAT_COMPUTE = ("Conv", "FusedConv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "FusedGemm")


def attribute(node: onnx.NodeProto, name: str) -> Any:
    """The value of a node's attribute; None where it has none of that name."""
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), None)


def makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each value, by the value's name."""
    return {name: node for node in model.graph.node for name in node.output}


def constant(model: onnx.ModelProto, name: str) -> Value | None:
    """The content of a stored constant; None for a value that is computed."""
    return next((onnx.numpy_helper.to_array(item) for item in model.graph.initializer if item.name == name), None)


def values_of(model: onnx.ModelProto, names: Iterable[str], fed: Mapping[str, Value] | None = None) -> dict[str, Value]:
    """The values of that name when the graph runs once in ONNX Runtime; on one black image unless told otherwise."""
    wanted = list(dict.fromkeys(names))
    session = open_watched(model, wanted)
    found = session.run(wanted, fed or {given.name: _black(given) for given in session.get_inputs()})
    return dict(zip(wanted, found, strict=True))


def open_watched(
    model: onnx.ModelProto, names: Iterable[str], threads: int = 1, exact: bool = False
) -> onnxruntime.InferenceSession:
    """A session on the CPU of which the values of that name can be had, beside the graph's own outputs.

    ``exact``: as the graph stands there, without what ONNX Runtime makes of it.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    own = {item.name for item in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in own)
    options = session_options(threads)
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=[CPU])


def _black(given: Any) -> Value:
    kind = np.uint8 if given.type == "tensor(uint8)" else np.float32
    return np.zeros([side if isinstance(side, int) else 1 for side in given.shape], kind)


def signed_activations(model: onnx.ModelProto) -> bool:
    """True for an int8 graph that rounds some computed value to signed integers (weights always are)."""
    kinds = {item.name: item.data_type for item in model.graph.initializer}
    rounded = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in kinds]
    return any(len(node.input) > 2 and kinds.get(node.input[2]) == onnx.TensorProto.INT8 for node in rounded)


def rounded_layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The convolutions and products of an int8 graph whose operands are both rounded."""
    made = makers(model)

    def is_rounded(name: str) -> bool:
        return name in made and made[name].op_type == "DequantizeLinear"

    return [node for node in model.graph.node if node.op_type in FLOAT_COMPUTE and all(map(is_rounded, node.input[:2]))]


def note(model: onnx.ModelProto, more: Mapping[str, Any]) -> None:
    """Add to what a graph that segkd wrote says about itself."""
    (item,) = (item for item in model.metadata_props if item.key == METADATA_KEY)
    item.value = json.dumps({**json.loads(item.value), **more})


def note_in(path: Path, more: Mapping[str, Any]) -> None:
    """Add to what a file that segkd wrote says about itself."""
    model = onnx.load(str(path))
    note(model, more)
    onnx.save_model(model, str(path))


def prune(model: onnx.ModelProto) -> None:
    """Remove the nodes, constants and notes of shapes that no output of the graph needs."""
    needed, kept = {item.name for item in model.graph.output}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    _replace(model.graph.node, kept[::-1])
    _replace(model.graph.initializer, [item for item in model.graph.initializer if item.name in needed])
    _replace(model.graph.value_info, [item for item in model.graph.value_info if item.name in needed])


def _replace(items: Any, kept: Sequence[Any]) -> None:
    copies = [type(item).FromString(item.SerializeToString()) for item in kept]
    del items[:]
    items.extend(copies)
