"""Equalised ranges, chosen roundings and corrected biases: against closed forms, and less error by each."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from segkd.deploy.equalize import equalize, find_pairs
from segkd.deploy.onnx import export_onnx
from segkd.deploy.parity import random_images
from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.rounding import Moments, Rounder, _Layer
from segkd.deploy.runtimes import OnnxRuntime
from segkd.errors import UserError
from segkd.models.base import Network

SIZE = (32, 40)


class Depthwise(Network):
    """A pointwise, a depthwise and a pointwise convolution, with channels of very different ranges."""

    def __init__(self) -> None:
        super().__init__(3)
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 16, 1)
        self.second = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.third = nn.Conv2d(16, 3, 1)
        with torch.no_grad():
            ranges = torch.logspace(-1.5, 1.5, 16)
            self.first.weight *= ranges.view(-1, 1, 1, 1)
            self.first.bias *= ranges
            self.second.weight /= ranges.flip(0).view(-1, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x).relu()).relu())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("improve") / "net.onnx"
    export_onnx(Depthwise(), path, SIZE, check_batches=(1,))
    return path


def ranges(model: onnx.ModelProto, layer: str, axis: int) -> np.ndarray:
    (weight,) = (numpy_helper.to_array(i) for i in model.graph.initializer if f"{layer}.weight" in i.name)
    return np.abs(weight.swapaxes(0, axis)).reshape(weight.shape[axis], -1).max(1)


def test_equalised_ranges_and_the_same_function(source: Path, tmp_path: Path) -> None:
    model = onnx.load(str(source))
    assert [(p.first.op_type, p.second.op_type) for p in find_pairs(model)] == [("Conv", "Conv")] * 2
    assert equalize(model) == 2
    np.testing.assert_allclose(ranges(model, "first", 0), ranges(model, "second", 0), rtol=2e-3)  # the paper's eq. 8
    np.testing.assert_allclose(ranges(model, "second", 0), ranges(model, "third", 1), rtol=2e-3)
    onnx.save_model(model, str(tmp_path / "equal.onnx"))
    image = random_images(2, SIZE, seed=1)
    expected, got = (OnnxRuntime(path).predict(image) for path in (source, tmp_path / "equal.onnx"))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("change", ["second reader", "output", "sigmoid"])
def test_what_is_read_elsewhere_is_not_scaled(source: Path, change: str) -> None:
    model = onnx.load(str(source))
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    if change == "second reader":
        model.graph.node.append(onnx.helper.make_node("Relu", [relu.input[0]], ["other"]))
    elif change == "output":
        model.graph.output.append(onnx.ValueInfoProto(name=relu.output[0]))
    else:
        relu.op_type = "Sigmoid"
    assert len(find_pairs(model)) == 1


def layer_of(weight: Tensor, scale: float) -> tuple[_Layer, dict[str, onnx.TensorProto]]:
    """A 1x1 convolution of an int8 graph, rounded to nearest."""
    near = (weight / scale).round().clamp(-64, 63).to(torch.int8)
    shape = (*weight.shape, 1, 1)
    values = {
        "w": near.reshape(shape).numpy(),
        "s": np.array(scale, np.float32),
        "z": np.array(0, np.int8),
        "b": np.zeros(len(weight), np.float32),
    }
    stored = {name: numpy_helper.from_array(value, name) for name, value in values.items()}
    nodes = [
        onnx.helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"]),
        onnx.helper.make_node("Conv", ["x", "wd", "b"], ["y"]),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [], [], initializer=list(stored.values()))
    model = onnx.helper.make_model(graph)
    return _Layer(model.graph.node[1], model, stored, weight.reshape(shape)), stored


def moments_of(x: Tensor, near: Tensor) -> Moments:
    """Of inputs (P, D)."""
    count = len(x)
    return Moments((near.T @ near)[None] / count, (near.T @ x)[None] / count, near.mean(0)[None], x.mean(0)[None])


@pytest.mark.parametrize("seed", range(4))
def test_chosen_roundings_are_the_best_of_all(seed: int) -> None:
    """Against every way to round 6 weights up or down."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, 6, generator=generator)
    x = torch.randn(200, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    near = (x * 4).round() / 4
    layer, stored = layer_of(weight, 0.3)
    found = layer.choose(moments_of(x, near), Rounder())

    def error(rounded: Tensor) -> float:
        return float((x @ weight[0] - near @ rounded).square().mean())

    floor = (weight[0] / 0.3).floor()
    all_ways = [0.3 * (floor + torch.tensor(ups, dtype=torch.float32)) for ups in product((0, 1), repeat=6)]
    errors = sorted(map(error, all_ways))
    assert error(found[0]) <= errors[3]  # of 64; it is no exhaustive search
    assert error(found[0]) <= error(0.3 * (weight[0] / 0.3).round())
    assert torch.equal(
        torch.from_numpy(numpy_helper.to_array(stored["w"]).astype(np.float32)).flatten() * 0.3, found[0]
    )


def test_corrected_bias_has_the_float_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(4, 6, generator=generator), torch.randn(4, generator=generator)
    x = torch.rand(200, 6, generator=generator)
    near = (x * 4).floor() / 4
    layer, stored = layer_of(weight, 0.3)
    layer.correct(moments_of(x, near), layer.near, bias)
    corrected = torch.from_numpy(numpy_helper.to_array(stored["b"]).copy())
    torch.testing.assert_close((near @ layer.near.T + corrected).mean(0), (x @ weight.T + bias).mean(0))


@pytest.mark.parametrize("symmetric", [False, True])
def test_each_improves_a_file(source: Path, tmp_path: Path, symmetric: bool) -> None:
    calibration = [random_images(6, SIZE, seed=3)]
    ways = [(), ("equalize",), ("bias",), ("adaround",), ("equalize", "bias", "adaround")]
    options = dict(op_types="conv", method="minmax", per_channel=False, symmetric=symmetric)
    found = {}
    for way in ways:
        report = quantize_onnx(source, tmp_path / "int8.onnx", calibration, improve=way, **options)
        found[way] = report.sqnr_db
    assert found["equalize",] > found[()] + 1
    assert found["bias",] > found[()]
    assert found["adaround",] > found[()]
    assert found[ways[-1]] > found["equalize",]
    assert OnnxRuntime(tmp_path / "int8.onnx").metadata["quantization"]["improve"] == list(ways[-1])
    with pytest.raises(UserError, match="unknown improvement 'adarond'; did you mean 'adaround'"):
        quantize_onnx(source, tmp_path / "int8.onnx", calibration, improve=["adarond"])
