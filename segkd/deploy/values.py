"""Values of ONNX graphs and of the networks of which they are made: which are rounded, and which are the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import onnx
import torch
from torch import Tensor, nn

from segkd.deploy.graphs import Value, constant, makers, open_watched, rounded_layers
from segkd.fakequant import Range
from segkd.fakequant.records import Record, Sample, record

CHUNK = 16  # values of a graph that are looked at in one run
OUTPUT = "_QuantizeLinear_Input"  # what ONNX Runtime appends to the name of a graph's output that it rounds
INTEGERS = {"uint8": (0, 255), "int8": (-128, 127)}


class Rounded(NamedTuple):
    """What an int8 graph rounds.

    Attributes:
        values: the name of a value -> how it is rounded.
        weights: the name of a convolution or product -> the scale of what it takes; 0 where its bias stays float.
        norms: the same of a BatchNorm that is not part of a convolution.
    """

    values: dict[str, Range]
    weights: dict[str, float]
    norms: dict[str, float]


def rounded_in(model: onnx.ModelProto) -> Rounded:
    """What an int8 graph rounds."""
    stored, made = {item.name for item in model.graph.initializer}, makers(model)
    values = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in stored:
            scale, zero = (constant(model, name) for name in node.input[1:3])
            assert scale is not None
            assert zero is not None
            values[node.input[0].removesuffix(OUTPUT)] = Range(float(scale), int(zero), *INTEGERS[zero.dtype.name])

    def dequantised(name: str) -> str | None:
        """What is rounded in the place of a value."""
        return made[name].input[0] if name in made and made[name].op_type == "DequantizeLinear" else None

    def unit(node: onnx.NodeProto) -> float:
        """The scale of what a layer takes, if its bias is rounded."""
        scale = constant(model, made[node.input[0]].input[1])
        assert scale is not None
        return float(scale) if len(node.input) > 2 and dequantised(node.input[2]) else 0.0

    weights = {node.name: unit(node) for node in rounded_layers(model) if dequantised(node.input[1]) in stored}
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    rounded = {node.name: unit(node) for node in norms if dequantised(node.input[1]) in stored}
    return Rounded(values, weights, rounded)


def record_calls(network: nn.Module, image: Tensor) -> Record:
    """What a network's calls give for an image (1, 3, H, W) uint8."""
    return record(network, network.preprocess(image.to(device_of(network))))  # type: ignore[operator]


def device_of(network: nn.Module) -> torch.device:
    """Where a network computes."""
    return next(network.parameters()).device


def samples_of(model: onnx.ModelProto, names: Iterable[str], fed: Value) -> dict[str, Sample]:
    """Samples of the values of that name, when the graph is fed an image."""
    wanted = list(dict.fromkeys(names))
    found: dict[str, Sample] = {}
    given = model.graph.input[0].name
    for start in range(0, len(wanted), CHUNK):
        part = [name for name in wanted[start : start + CHUNK] if name != given]
        session = open_watched(model, part)
        values = zip(part, session.run(part, {given: fed}), strict=True) if part else ()
        found |= {name: Sample.of(torch.from_numpy(value)) for name, value in values if value.dtype.kind == "f"}
    return found
