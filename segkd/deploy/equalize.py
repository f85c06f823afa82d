"""Cross-layer equalisation: channels of neighbouring convolutions scaled to like ranges, with the same result.

Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019 (arXiv:1906.04721),
equations 9 to 11: a ReLU lets factors pass, so that channel i of one layer may be divided by s_i and the next layer's
weights for it multiplied by s_i. With s_i = sqrt(r1_i / r2_i), of the largest weights r of channel i in both, the
ranges are equal. Depthwise convolutions, whose channels differ most, gain most.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from segkd.deploy.graphs import Value, attribute

PASSING = ("Relu", "LeakyRelu", "PRelu")  # f(s x) = s f(x) for s > 0; a PRelu's slopes are one for each channel, or one
ROUNDS = 20
ENOUGH = 1e-3  # a round that changes no factor by more is the last one
LIMIT = 1e4  # of a factor


@dataclass(frozen=True)
class Pair:
    """Two convolutions, the second of which alone reads the first."""

    first: onnx.NodeProto
    second: onnx.NodeProto


def equalize(model: onnx.ModelProto) -> int:
    """Equalise all pairs of convolutions of a float graph, in place; the number of pairs."""
    weights = {item.name: item for item in model.graph.initializer}
    values = {name: numpy_helper.to_array(item).astype(np.float64) for name, item in weights.items() if _is_float(item)}
    pairs = list(find_pairs(model))
    changed: set[str] = set()
    for _ in range(ROUNDS):
        furthest = max((_equalize(pair, values, changed) for pair in pairs), default=0.0)
        if furthest < ENOUGH:
            break
    for name in changed:
        weights[name].CopyFrom(numpy_helper.from_array(values[name].astype(np.float32), name))
    return len(pairs)


def _is_float(item: onnx.TensorProto) -> bool:
    return bool(item.data_type == onnx.TensorProto.FLOAT)


def find_pairs(model: onnx.ModelProto) -> list[Pair]:
    """All pairs of convolutions with nothing but activations that pass factors between them."""
    stored = {item.name for item in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    uses.update(item.name for item in model.graph.output)
    readers = {name: node for node in model.graph.node for name in node.input if uses[name] == 1}

    def own(node: onnx.NodeProto) -> bool:
        """True for a convolution whose constants no other node reads."""
        return node.op_type == "Conv" and all(name in stored and uses[name] == 1 for name in node.input[1:])

    pairs = []
    for first in filter(own, model.graph.node):
        reader = readers.get(first.output[0])
        while reader is not None and reader.op_type in PASSING and reader.input[0] not in stored:
            reader = readers.get(reader.output[0])
        if reader is not None and own(reader) and _scalable(reader, model):
            pairs.append(Pair(first, reader))
    return pairs


def _scalable(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """True for a plain or a depthwise convolution: of others, an input channel belongs to a group."""
    groups = attribute(node, "group") or 1
    shape = next(list(item.dims) for item in model.graph.initializer if item.name == node.input[1])
    return groups == 1 or (groups == shape[0] and shape[1] == 1)


def _equalize(pair: Pair, values: dict[str, Value], changed: set[str]) -> float:
    """Scale one pair; how far its factors are from 1 (as the largest absolute logarithm)."""
    first, second = values[pair.first.input[1]], values[pair.second.input[1]]
    depthwise = (attribute(pair.second, "group") or 1) > 1
    per_input = second if depthwise else second.swapaxes(0, 1)
    r1, r2 = (np.abs(x).reshape(len(x), -1).max(1) for x in (first, per_input))
    alive = (r1 > 0) & (r2 > 0)  # a channel without weights on either side has no range
    factor = np.where(alive, np.sqrt(np.where(alive, r1, 1) / np.where(alive, r2, 1)), 1.0).clip(1 / LIMIT, LIMIT)
    shape = (-1, 1, 1, 1)
    values[pair.first.input[1]] = first / factor.reshape(shape)
    values[pair.second.input[1]] = second * (factor.reshape(shape) if depthwise else factor.reshape(1, -1, 1, 1))
    changed.update((pair.first.input[1], pair.second.input[1]))
    if len(pair.first.input) > 2:
        values[pair.first.input[2]] = values[pair.first.input[2]] / factor
        changed.add(pair.first.input[2])
    return float(np.abs(np.log(factor)).max())
