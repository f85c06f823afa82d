"""Where an int8 file rounds: before what computes in int8, and never a convolution's result before its activation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from segkd.deploy.graphs import makers
from segkd.deploy.onnx import export_onnx
from segkd.deploy.parity import random_images
from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.report import QuantizeReport
from segkd.deploy.tensorrt import quantize_tensorrt
from segkd.models.base import Network, Preprocess

SIZE = (32, 48)


class Saturated(Network):
    """A convolution of which one channel reaches far beyond the 6 at which its activation ends, and a sum."""

    def __init__(self) -> None:
        super().__init__(4, Preprocess(channels="RGB", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)))
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.classifier = nn.Conv2d(16, 4, 1)
        with torch.no_grad():
            self.first.weight[0] *= 300

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu6(self.first(x))
        return self.classifier(nn.functional.relu6(y + self.second(y)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("pairs") / "float.onnx"
    export_onnx(Saturated().eval(), path, SIZE)
    return path


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    return [random_images(4, SIZE, seed=1)]


@pytest.mark.parametrize("route", [quantize_onnx, quantize_tensorrt])
def test_what_an_activation_cuts_off_takes_no_levels(
    route: Callable[..., QuantizeReport], source: Path, images: list[Tensor], tmp_path: Path
) -> None:
    """Rounded before it, the other channels would have a few steps (12 dB in both routes)."""
    report = route(source, tmp_path / "int8.onnx", images, op_types="conv")
    assert report.sqnr_db > 25


@pytest.mark.parametrize("ops", ["conv", "all"])
def test_tensorrt_rounds_what_is_read_in_int8(ops: str, source: Path, images: list[Tensor], tmp_path: Path) -> None:
    quantize_tensorrt(source, tmp_path / "int8.onnx", images, op_types=ops)
    graph = onnx.load(str(tmp_path / "int8.onnx"))
    onnx.checker.check_model(graph)
    made = makers(graph)
    pairs = [node for node in graph.graph.node if node.op_type == "QuantizeLinear"]
    assert pairs
    for pair in pairs:
        (reader,) = (node for node in graph.graph.node if pair.output[0] in node.input)
        users = {node.op_type for node in graph.graph.node if reader.output[0] in node.input}
        assert users & ({"Conv"} if ops == "conv" else {"Conv", "Add"}), f"nobody in int8 reads {pair.input[0]}"
        assert "Clip" not in users
    (first,) = (node for node in graph.graph.node if node.op_type == "Clip" and made[node.input[0]].op_type == "Conv")
    assert made[made[first.input[0]].input[0]].op_type == "DequantizeLinear"  # the convolution is in int8
