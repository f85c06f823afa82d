"""What each layer loses alone in int8, and files that keep within a stated loss."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pyramid_net import SIZE, PyramidNet
from torch import Tensor, nn

from segkd.datasets.base import Sample, SegmentationDataset
from segkd.deploy.onnx import export_onnx
from segkd.deploy.parity import random_images
from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.runtimes import OnnxRuntime
from segkd.deploy.sensitivity import layer_losses, rounded_layers
from segkd.errors import UserError
from segkd.models.base import Network
from segkd.workbench.accuracy import measure_layers, quantize_within


class Chain(Network):
    """Three convolutions; the second has a large weight for a channel that is always 0: its rounding is coarse."""

    def __init__(self, outlier: float = 10.0) -> None:
        super().__init__(3)
        torch.manual_seed(0)
        self.first, self.second, self.third = (nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 1))
        with torch.no_grad():
            self.first.weight[0] = 0
            self.first.bias[0] = 0
            self.second.weight[:, 0] = outlier * self.second.weight.abs().max()

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x).relu()).relu())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("chain")
    export_onnx(Chain(), folder / "net.onnx", (32, 40), check_batches=(1,))
    quantize_onnx(folder / "net.onnx", folder / "int8.onnx", [random_images(4, (32, 40), seed=1)], method="minmax")
    return folder / "net.onnx", folder / "int8.onnx"


def test_a_layer_alone_by_hand(files: tuple[Path, Path]) -> None:
    source, int8 = files
    image = random_images(1, (32, 40), seed=2)
    losses = {loss.layer: loss for loss in layer_losses(source, int8, [image])}
    assert set(losses) == {"first", "second", "third"}
    rounded = onnx.load(str(int8))
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in rounded.graph.initializer}
    made = {name: node for node in rounded.graph.node for name in node.output}
    (third,) = (node for node in rounded_layers(rounded) if node.name == losses["third"].node)

    def parts(name: str) -> tuple[np.ndarray, np.ndarray, str]:
        node = made[name]
        return constants[node.input[1]].astype(np.float64), constants[node.input[2]].astype(np.float64), node.input[0]

    network = Chain().double().eval()
    with torch.no_grad():
        x = network.preprocess(image).double()
        given = network.second(network.first(x).relu()).relu()
        scale, zero, _ = parts(third.input[0])
        near = torch.from_numpy(((given.numpy() / scale).round() + zero).clip(0, 255) - zero) * float(scale)
        scale, zero, stored = parts(third.input[1])
        scale, zero = scale.reshape(-1, 1, 1, 1), zero.reshape(-1, 1, 1, 1)
        weight = torch.from_numpy((constants[stored].astype(np.float64) - zero) * scale)
        scale, _, stored = parts(third.input[2])
        bias = torch.from_numpy(constants[stored].astype(np.float64) * scale)
        expected, got = network.third(given), torch.nn.functional.conv2d(near, weight, bias)
    sqnr = 10 * math.log10(float(expected.square().sum() / (expected - got).square().sum()))
    assert losses["third"].sqnr_db == pytest.approx(sqnr, abs=0.2)


def test_the_worst_comes_first(files: tuple[Path, Path]) -> None:
    losses = layer_losses(*files, [random_images(1, (32, 40), seed=3)])
    assert losses[0].layer == "second"
    assert [loss.sqnr_db for loss in losses] == sorted(loss.sqnr_db for loss in losses)


def test_all_layers_float_lose_nothing(files: tuple[Path, Path]) -> None:
    from segkd.deploy.sensitivity import alone

    floats, rounded = (onnx.load(str(file)) for file in files)
    for node in rounded_layers(rounded):
        onnxruntime.InferenceSession(alone(floats, rounded, node.name).SerializeToString())
    assert len(rounded_layers(floats)) == 0


class Scenes(SegmentationDataset):
    """Random images, labelled by what a network sees in them."""

    class_names = ("a", "b", "c")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))

    def __init__(self, network: Network, size: tuple[int, int]) -> None:
        self.images = random_images(4, size, seed=11)
        with torch.no_grad():
            self.labels = network.eval().predict(self.images).argmax(1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.images[index].permute(1, 2, 0).numpy(), self.labels[index].numpy().astype(np.uint8))


def test_within_a_stated_loss(tmp_path: Path) -> None:
    network = Chain(200.0)
    export_onnx(network, tmp_path / "net.onnx", (32, 40), check_batches=(1,))
    scenes, source = Scenes(network, (32, 40)), tmp_path / "net.onnx"
    loose = quantize_within(source, scenes, scenes, max_drop=60.0, images=4, method="minmax")
    assert (loose.kept, loose.losses, [row["kept"] for row in loose.rows]) == ((), [], [0])
    drop = loose.rows[0]["drop"]
    options = dict(max_drop=0.8 * drop, images=4, method="minmax")
    close = quantize_within(source, scenes, scenes, tmp_path / "close.onnx", **options)
    assert close.rows[-1]["drop"] <= 0.8 * drop
    assert close.kept == tuple(loss.node for loss in close.losses[: len(close.kept)])
    assert close.report.float_ops == len(close.kept) > 0
    with pytest.raises(UserError, match=r"int8 loses .* mIoU at best .* more than -1"):
        quantize_within(source, scenes, scenes, tmp_path / "none.onnx", max_drop=-1, images=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["close.onnx", "net.onnx", "net_int8.onnx"]


def test_labels_have_no_losses(exported: Path, tmp_path: Path, net: PyramidNet) -> None:
    from segkd.deploy.tail import make_labels

    make_labels(exported, tmp_path / "labels.onnx")
    training = net.training
    scenes = Scenes(net, SIZE)
    net.train(training)
    with pytest.raises(UserError, match="gives labels; the layers' losses are measured on logits"):
        measure_layers(tmp_path / "labels.onnx", scenes, images=1)
    assert OnnxRuntime(exported).num_classes == 3
