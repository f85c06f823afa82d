"""How much each layer loses when it alone computes in int8: the first thing to know where a file loses accuracy."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from segkd.deploy.graphs import Value, makers, rounded_layers
from segkd.deploy.runtimes import CPU, OnnxRuntime, session_options


class LayerLoss(NamedTuple):
    """What one layer loses.

    Attributes:
        node: its name in the graph.
        layer: the network's layer that it is, where its weights say so.
        op: its operator.
        sqnr_db: signal to noise (dB) of the logits with this layer alone in int8; infinite where nothing changes.
    """

    node: str
    layer: str
    op: str
    sqnr_db: float


def layer_losses(
    source: str | Path,
    int8: str | Path,
    images: Sequence[Tensor],
    threads: int = 2,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[LayerLoss]:
    """The loss of every layer that computes in int8, the worst first.

    Args:
        source: the float file of logits.
        int8: the int8 ONNX file made of it.
        images: (1, 3, H, W) uint8, on which logits are compared.
        progress: called with the layers done and their number.
    """
    runtime = OnnxRuntime(source, threads)
    fed = [runtime.to_input(image) for image in images]
    with tempfile.TemporaryDirectory(prefix="segkd-") as folder:
        quant_pre_process(str(source), str(Path(folder) / "float.onnx"), skip_symbolic_shape=True)
        floats = onnx.load(str(Path(folder) / "float.onnx"))
    rounded = onnx.load(str(int8))
    nodes = rounded_layers(rounded)
    expected = _logits(floats, fed, threads)
    losses = []
    for number, node in enumerate(nodes):
        got = _logits(alone(floats, rounded, node.name), fed, threads)
        losses.append(LayerLoss(node.name, _layer(node, floats), node.op_type, _sqnr(expected, got)))
        progress(number + 1, len(nodes))
    return sorted(losses, key=lambda loss: loss.sqnr_db)


def _layer(node: onnx.NodeProto, floats: onnx.ModelProto) -> str:
    """The path of a network's layer, from the name of its weights in the float graph."""
    weights: str = next(list(own.input)[1] for own in floats.graph.node if own.name == node.name)
    return weights.removeprefix("network.").removeprefix("network.").removesuffix(".weight")


def alone(floats: onnx.ModelProto, rounded: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The float graph with the one layer of that name as it is in the int8 graph."""
    model = onnx.ModelProto()
    model.CopyFrom(floats)
    made = makers(rounded)
    (there,) = (node for node in rounded.graph.node if node.name == name)
    place, here = next((k, node) for k, node in enumerate(model.graph.node) if node.name == name)
    known = {item.name for item in model.graph.initializer} | set(makers(model)) | {model.graph.input[0].name}
    added: list[onnx.NodeProto] = []
    needed = list(there.input)
    while needed:
        value = needed.pop()
        if value in made and value not in known and made[value] not in added:
            added.append(made[value])
            needed.extend(made[value].input)
    here.input[:] = there.input
    for node in added:  # each before those that need it
        model.graph.node.insert(place, node)
    wanted = {value for node in (*added, there) for value in node.input} - known
    model.graph.initializer.extend(item for item in rounded.graph.initializer if item.name in wanted)
    return model


def _logits(model: onnx.ModelProto, fed: Sequence[Value], threads: int) -> list[Value]:
    options = session_options(threads, rounded=True)  # exactly what the roundings say, on any CPU
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CPU])
    return [session.run(None, {"image": value})[0] for value in fed]


def _sqnr(expected: Sequence[Value], got: Sequence[Value]) -> float:
    signal = sum(float(np.square(value, dtype=np.float64).sum()) for value in expected)
    pairs = zip(expected, got, strict=True)
    noise = sum(float(np.square(one - other, dtype=np.float64).sum()) for one, other in pairs)
    return 10 * math.log10(signal / noise) if noise else math.inf
