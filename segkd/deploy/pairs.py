"""Pairs of Q and DQ that only cost, taken out of an int8 graph: TensorRT rounds what a layer reads, not what it gives.

ONNX Runtime's quantiser rounds what a convolution gives, too. Between a convolution and its activation that keeps
TensorRT from making one kernel of both, and the range spans what the activation cuts off: after ReLU6 a few levels of
256 are left. Before a sum in float it adds noise, and saves nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import onnx

from segkd.deploy.graphs import FLOAT_COMPUTE, makers, prune

#: operators before which nothing is rounded for their own sake
ACTIVATIONS = ("Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Sigmoid")


def drop_needless_pairs(model: onnx.ModelProto, op_types: Iterable[str] | None) -> int:
    """Take out each pair of QuantizeLinear and DequantizeLinear whose value no int8 operator reads; how many.

    Args:
        model: a graph with Q/DQ; it is changed.
        op_types: the operators that are quantised, for which values are rounded; None: all. ``ACTIVATIONS`` are not
            among them: what they give is rounded, where that is read.
    """
    graph = model.graph
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    made, outputs = makers(model), {item.name for item in graph.output}
    reading = None if op_types is None else {*op_types, *FLOAT_COMPUTE} - {*ACTIVATIONS}
    dropped = 0
    for node in graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        value, back = node.input[0], readers[node.output[0]]
        given = [reader.output[0] for reader in back]
        if any(_needs(reader, reading) for name in given for reader in readers[name]):
            continue
        own = next(iter(outputs.intersection(given)), value)  # of the graph keeps its name
        if own != value and value not in made:  # an image given back as it is
            continue
        for reader in back:
            reader.output[0] += "_unused"
        for name in (value, *given):
            for reader in readers[name]:
                reader.input[:] = [own if old == name else old for old in reader.input]
        if own != value:
            made[value].output[:] = [own if old == value else old for old in made[value].output]
        dropped += 1
    prune(model)
    return dropped


def drop_needless_pairs_in(path: Path, op_types: Iterable[str] | None) -> None:
    """``drop_needless_pairs`` of a file."""
    model = onnx.load(str(path))
    drop_needless_pairs(model, op_types)
    onnx.save_model(model, str(path))


def _needs(reader: onnx.NodeProto, reading: set[str] | None) -> bool:
    return reader.op_type not in ACTIVATIONS if reading is None else reader.op_type in reading
