"""Fake quantisation: against ONNX's reference of QuantizeLinear, closed forms, and what a network must keep."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.fakequant import FAKE_QUANT, FakeQuant, Range, attach, detach
from segkd.fakequant.module import WHOLE, Grid
from segkd.fakequant.records import Sample, record
from segkd.models import Network, load_weights
from segkd.taps import tap
from segkd.training.state import save_student

U8, S8 = Range(0.05, 100, 0, 255), Range(0.03, 0, -128, 127)


class Small(Network):
    """A convolution with BatchNorm and an activation in place; a skip; a split into halves."""

    def __init__(self) -> None:
        super().__init__(2)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.classifier = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        half, other = (y + y.mean((2, 3), keepdim=True)).chunk(2, 1)
        return self.classifier(half * other)


PLACES = {
    ":input": Range(0.02, 110, 0, 255),
    "body.2:relu:0": Range(0.01, 0, 0, 255),
    ":chunk:0:1": Range(0.02, 0, 0, 255),
    "classifier:conv2d:0": U8,
}


def small() -> Small:
    torch.manual_seed(0)
    network = Small()
    for _ in range(3):
        network(torch.randn(4, 3, 32, 32))
    nn.init.uniform_(network.body[1].weight, 0.5, 1.5)
    return network.eval()


def by_onnx(x: Tensor, value: Range) -> Tensor:
    """Rounded by ONNX's own reference of QuantizeLinear and DequantizeLinear."""
    kind = np.uint8 if value.most == 255 else np.int8
    stored = {"s": np.float32(value.scale), "z": kind(value.zero_point)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "rounding", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    return torch.from_numpy(ReferenceEvaluator(model).run(None, {"x": x.numpy()})[0])


def test_values_are_rounded_as_onnx_says_and_gradients_pass_where_nothing_is_clipped() -> None:
    x = torch.linspace(-12, 12, 1001)
    for value in (U8, S8):
        places = FakeQuant({"a": value}, {})
        given = x.clone().requires_grad_()
        found = places("a", given)
        torch.testing.assert_close(found.detach(), by_onnx(x, value), rtol=0, atol=1e-6)
        (found * x).sum().backward()  # type: ignore[no-untyped-call]
        low, high = ((end - value.zero_point) * value.scale for end in (value.least, value.most))
        inside = (x > low - value.scale / 2) & (x < high + value.scale / 2)
        assert 0 < float(inside.float().mean()) < 1
        assert torch.equal(given.grad, x * inside)
        assert places("b", x) is x


def test_weights_are_rounded_by_channel_as_the_closed_form_says() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 4, 2, 2) * torch.tensor([1.0, 1e-3, 0.0]).view(-1, 1, 1, 1)
    for axis, limit in ((0, 64), (0, 127), (1, 127), (WHOLE, 64)):
        places = FakeQuant({}, {"a:conv2d:0": Grid(axis, limit, 0.1, "a:conv2d:0")})
        given = weight.clone().requires_grad_()
        found, scale = places.weight("a:conv2d:0", given)
        others = tuple(k for k in range(4) if k != axis)
        largest = weight.abs().amax(others, keepdim=True)
        step = torch.where(largest > 0, largest / limit, 1.0)
        torch.testing.assert_close(found.detach(), (weight / step).round() * step)
        torch.testing.assert_close(scale.flatten(), step.flatten())
        found.sum().backward()  # type: ignore[no-untyped-call]
        assert torch.equal(given.grad, torch.ones_like(weight))  # none is clipped


def test_a_batchnorm_behind_changes_no_integer_of_the_weights_and_the_bias_is_theirs() -> None:
    """The file has the BatchNorm in the convolution, and rounds that; the network rounds what it has."""
    network, x, scale = small(), torch.randn(2, 3, 32, 32), 0.02
    grid = Grid(0, 64, scale, "body.1:batch_norm:0")
    attach(network, FakeQuant({}, {"body.0:conv2d:0": grid}))
    conv, norm = network.body[0], network.body[1]
    with torch.no_grad():
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        merged = conv.weight * factor.view(-1, 1, 1, 1)
        bias = norm.bias + factor * (conv.bias - norm.running_mean)
        step = merged.abs().amax((1, 2, 3)) / 64
        rounded = (merged / step.view(-1, 1, 1, 1)).round() * step.view(-1, 1, 1, 1)
        expected = F.conv2d(x, rounded, (bias / (step * scale)).round() * step * scale, padding=1).relu()
        with tap(network, ["body"]) as features:
            network(x)
    torch.testing.assert_close(features["body"], expected, rtol=1e-4, atol=1e-5)


def test_a_batchnorm_by_itself_has_its_factors_and_shifts_rounded() -> None:
    network, x = small(), torch.randn(2, 3, 32, 32)
    attach(network, FakeQuant({}, {"body.1:batch_norm:0": Grid(WHOLE, 64, 0.02, "body.1:batch_norm:0")}))
    norm = network.body[1]
    with torch.no_grad(), tap(network, ["body.1@input", "body.1"]) as features:
        network(x)
        step = norm.weight.abs().max() / 64
        factor, shift = (norm.weight / step).round() * step, (norm.bias / (step * 0.02)).round() * step * 0.02
        y = F.batch_norm(features["body.1@input"], norm.running_mean, norm.running_var, factor, shift)
        torch.testing.assert_close(features["body.1"], y)


def test_taps_read_what_is_rounded_by_the_names_they_had() -> None:
    network, x = small(), torch.randn(2, 3, 32, 48)
    attach(network, FakeQuant(PLACES, {}))
    with torch.no_grad(), tap(network, ["body.2", "classifier@input", "classifier"]) as features:
        logits = network(x)
        found = dict(features)
    plain = network.body(FakeQuant(PLACES, {})(":input", x)).detach()
    torch.testing.assert_close(found["body.2"], by_onnx(plain, PLACES["body.2:relu:0"]), rtol=0, atol=1e-6)
    assert torch.equal(found["classifier"], logits)
    integers = logits.detach() / U8.scale
    torch.testing.assert_close(integers, integers.round(), rtol=0, atol=1e-4)
    assert not torch.equal(found["classifier"], network.classifier(found["classifier@input"]))  # that was not rounded
    network(torch.randn(1, 3, 40, 64))  # of any size


def test_it_travels_with_the_weights_and_stays_in_eval(tmp_path: Path) -> None:
    network, x = small(), torch.randn(1, 3, 32, 32)
    weights = {"body.0:conv2d:0": Grid(0, 127, 2**-6, "body.1:batch_norm:0")}
    attach(network, FakeQuant(PLACES, weights, "conv"))
    assert not network.train().body[1].training
    save_student(network, tmp_path / "weights.pth")
    others = [Small(), copy.deepcopy(network)]
    load_weights(others[0], tmp_path / "weights.pth")
    for other in others:
        assert torch.equal(other(x), network(x))
    places = others[0]._modules[FAKE_QUANT]
    assert isinstance(places, FakeQuant)
    assert (places.weights, places.ops, set(places.values)) == (weights, "conv", set(PLACES))
    rounded = network(x)
    assert detach(network) is not None
    assert detach(network) is None
    assert not torch.equal(network(x), rounded)
    assert network.train().body[1].training


def test_calls_are_found_by_what_they_gave() -> None:
    network, x = small(), torch.randn(1, 3, 32, 48)
    calls = record(network, x)
    assert calls.find(Sample.of(x)) == [":input"]
    with torch.no_grad(), tap(network, ["body.1", "body.2"]) as features:
        network(x)
    assert calls.find(Sample.of(features["body.2"])) == ["body.2:relu:0"]
    assert calls.weighted(calls.find(Sample.of(features["body.1"]))[0]) == "body.0:conv2d:0"
    assert calls.weighted(":input") is None
    assert calls.find(Sample.of(x + 1)) == []
