"""The places where a route's int8 file rounds, found in the network of which the file is made: what it trains with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from segkd.deploy.fusing import method_of
from segkd.deploy.graphs import Value, makers, open_watched
from segkd.deploy.onnx import export_onnx
from segkd.deploy.quantize import prepare_onnx
from segkd.deploy.report import Images, take_images
from segkd.deploy.routes import Choices, find_route
from segkd.deploy.runtimes import TENSORRT, OnnxRuntime
from segkd.deploy.values import OUTPUT, Rounded, device_of, record_calls, rounded_in, samples_of
from segkd.errors import UserError
from segkd.fakequant import FakeQuant, Range, Rounding
from segkd.fakequant.calls import INPUT, WEIGHTED, function_of
from segkd.fakequant.module import WHOLE, Grid

MOST_DIFFERING = 0.1  # mean difference in integers; maps that are resized lie between two of them often enough
#: axis of the output channels in the weights of torch's functions
AXES = {"conv2d": 0, "linear": 0, "conv_transpose2d": 1}


def find_places(
    network: nn.Module, route: str, calibration: Iterable[Images], size: tuple[int, int], choices: Choices, *,
    count: int = 16, threads: int = 2,
) -> FakeQuant:  # fmt: skip
    """Where the file of a route rounds, as places of ``network``, with the file's own scales.

    The network is exported and quantised as `segkd export` and `segkd quantize` do it, into a temporary folder; each
    value that the file rounds is found again among what the network's calls give for a calibration image.

    Args:
        network: a ``segkd.models.Network`` in eval mode, which does not round yet; it is not changed.
        route: "onnxruntime" or "tensorrt".
        calibration: batches (N, 3, H, W) uint8 RGB of training images of ``size``.
        size: (H, W) of the file.
        choices: how the route quantises.
        count: calibration images.

    Raises:
        UserError: the file rounds inside of one of torch's functions, or computes otherwise than the network that
            rounds at these places.
    """
    way = find_route(route)
    if branched := [path for path, module in network.named_modules() if method_of(module)]:
        raise UserError(
            f"{type(network).__name__} cannot be trained with the file's rounding: it trains {branched[0]!r} in "
            "branches that are one convolution in the file"
        )
    with tempfile.TemporaryDirectory(prefix="segkd-") as folder:
        source, target, prepared = (Path(folder) / name for name in ("float.onnx", "int8.onnx", "prepared.onnx"))
        export_onnx(network, source, size, batch=1, merge=False, threads=threads)
        runtime = OnnxRuntime(source, threads)
        images = take_images(calibration, count, runtime, source)
        way.quantize(source, target, images, choices, count, threads)
        prepare_onnx(source, prepared)
        floats, rounded = onnx.load(str(prepared)), onnx.load(str(target))
        fed = runtime.to_input(images[0])
        ops = choices.op_types or ("conv" if route == TENSORRT else "all")
        limit = 64 if route != TENSORRT and choices.weight_bits != 8 else 127
        calls, values, weights = _placed(network, floats, rounded_in(rounded), limit, images[0], fed)
        places = FakeQuant(values, weights, str(ops))
        _check(network, places, _rounded_values(rounded, calls, fed, threads), images[0])
    return places


def _placed(
    network: nn.Module, floats: onnx.ModelProto, found: Rounded, limit: int, image: Tensor, fed: Value
) -> tuple[dict[str, str], dict[str, Range], dict[str, Grid]]:
    """The call of each value that a file rounds, and the places, by what network and float graph give for an image."""
    calls = record_calls(network, image)
    outputs = {node.name: node.output[0] for node in floats.graph.node}
    if lost := [name for name in found.values if name not in makers(floats)]:
        raise UserError(_nowhere(network, floats, lost[0]))
    samples = samples_of(floats, [*found.values, *(outputs[name] for name in (*found.weights, *found.norms))], fed)
    values: dict[str, Range] = {}
    named: dict[str, str] = {}
    for name, value in found.values.items():
        givers = _alike(calls.find(samples[name]), values)
        if not givers or values.get(givers[0], value) != value:
            raise UserError(_nowhere(network, floats, name))
        values |= dict.fromkeys(givers, value)
        named[name] = givers[0]
    weights: dict[str, Grid] = {}
    for node, scale in found.weights.items():
        result = next(iter(calls.find(samples[outputs[node]])), "")
        call = calls.weighted(result)
        if call is None:
            raise UserError(_nowhere(network, floats, outputs[node]))
        known = function_of(result) in (*WEIGHTED, "batch_norm")
        weights[call] = Grid(AXES[function_of(call)], limit, scale if known else 0.0, result)
    for node, scale in found.norms.items():
        norms = [call for call in calls.find(samples[outputs[node]]) if function_of(call) == "batch_norm"]
        if not norms:
            raise UserError(_nowhere(network, floats, outputs[node]))
        weights |= {norm: Grid(WHOLE, limit, scale, norm) for norm in norms}
    return named, values, weights


def _alike(givers: Sequence[str], taken: Mapping[str, Range]) -> list[str]:
    """Of calls that gave the same, those of one function: the first of which one is free, else the first.

    Another function behind (dropout) changes nothing; branches that began alike are one in the file.
    """
    free = [call for call in givers if call not in taken] or givers
    return [call for call in givers if function_of(call) == function_of(free[0])]


def _nowhere(network: nn.Module, floats: onnx.ModelProto, name: str) -> str:
    node = makers(floats).get(name)
    what = "its input" if node is None else f"what {node.op_type} {node.name!r} gives ({name})"
    return (
        f"{type(network).__name__} cannot be trained with the file's rounding: the int8 file rounds {what}, which is "
        "inside of one of torch's functions"
    )


def _rounded_values(model: onnx.ModelProto, calls: Mapping[str, str], fed: Value, threads: int) -> dict[str, Tensor]:
    """What the file makes of each value that it rounds, by the call that gives it in the network."""
    readers = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    rounded = {
        node.input[0].removesuffix(OUTPUT): readers[node.output[0]]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.output[0] in readers
    }
    names = [name for name in calls if name in rounded]
    session = open_watched(model, [rounded[name] for name in names], threads, exact=True)
    found = session.run([rounded[name] for name in names], {model.graph.input[0].name: fed})
    return {calls[name]: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}


class _Compared(Rounding):
    """Rounds as ``places`` say, compares with the file, and goes on with the file's own values: each place for itself.

    Attributes:
        worst: the place that differs most, and by how many integers in the mean.
    """

    def __init__(self, places: FakeQuant, expected: Mapping[str, Tensor]) -> None:
        super().__init__(places)
        self.expected = expected
        self.worst = ("", 0.0)

    def rounded(self, name: str, x: Tensor) -> Tensor:
        found = super().rounded(name, x)
        if name not in self.expected:
            return found
        expected = self.expected[name].to(x.device)
        apart = float((found - expected).abs().double().mean()) / self.places.values[name].scale
        if apart > self.worst[1]:
            self.worst = name, apart
        return expected


@torch.no_grad()
def _check(network: nn.Module, places: FakeQuant, expected: Mapping[str, Tensor], image: Tensor) -> None:
    """A UserError unless the network rounds at each place as the file does, of what that has computed before."""
    compared = _Compared(places.to(device_of(network)), expected)
    x = compared.rounded(INPUT, network.preprocess(image.to(device_of(network))))  # type: ignore[operator]
    with compared.around(network):
        network(x)
    name, apart = compared.worst
    if apart > MOST_DIFFERING:
        raise UserError(
            f"{type(network).__name__} cannot be trained with the file's rounding: what call {name!r} gives differs "
            f"from the file's by {apart:.2f} integers in the mean"
        )
