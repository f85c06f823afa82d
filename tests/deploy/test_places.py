"""Places where an int8 file rounds, found in networks with all kinds of layers; networks in which they cannot be."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.deploy import places as module
from segkd.deploy.onnx import export_onnx
from segkd.deploy.parity import random_images
from segkd.deploy.places import find_places
from segkd.deploy.routes import ROUTES, Choices
from segkd.errors import UserError
from segkd.fakequant import FakeQuant, attach
from segkd.models import Network

SIZE = (48, 64)
CHOICES = Choices(method="minmax")


class Twins(Network):
    """Branches, BatchNorms before and behind a concatenation, PReLU, a transposed and a grouped convolution."""

    def __init__(self) -> None:
        super().__init__(3)
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.twins = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=g)) for g in (1, 4)
        )
        self.joined = nn.Sequential(nn.BatchNorm2d(16), nn.PReLU(16), nn.Dropout(0.1))
        self.up = nn.ConvTranspose2d(16, 6, 2, 2, bias=False)
        self.classifier = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = self.joined(torch.cat([twin(y) for twin in self.twins], 1) * 2)
        y = F.interpolate(F.max_pool2d(y, 2), size=y.shape[-2:], mode="bilinear", align_corners=False) + y
        return self.classifier(self.up(y))


class Attends(Network):
    """Attention, which is several operations of a file and one function of torch's."""

    def __init__(self) -> None:
        super().__init__(3)
        self.stem = nn.Conv2d(3, 8, 8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.classifier = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        rows = y.flatten(2).mT
        y = self.attention(rows, rows, rows, need_weights=False)[0].mT.reshape(y.shape)
        return F.interpolate(self.classifier(y), size=x.shape[-2:], mode="bilinear", align_corners=False)


class Branches(nn.Conv2d):
    """A convolution that says how it is merged."""

    def fuse(self) -> nn.Module:
        return self


def settled(network: Network) -> Network:
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)  # branches that begin alike would be one in the file
    for seed in range(3):
        network.predict(random_images(2, SIZE, seed=seed))
    return network.eval()


def found(network: Network, route: str = "onnxruntime") -> FakeQuant:
    return find_places(network, route, [random_images(2, SIZE, seed=9)], SIZE, CHOICES, count=2)


def test_every_layer_rounds_as_in_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = settled(Twins())
    places = found(network)
    assert {"twins.0.1:relu:0", "twins.1.1:relu:0", ":cat:0", ":mul:0", ":add:0", "up:conv_transpose2d:0"} <= set(
        places.values
    )
    norms = {"twins.0.0:batch_norm:0", "twins.1.0:batch_norm:0", "joined.0:batch_norm:0"}
    layers = {"stem:conv2d:0", "twins.0.2:conv2d:0", "twins.1.2:conv2d:0", "up:conv_transpose2d:0"}
    assert set(places.weights) == norms | layers | {"classifier:conv2d:0"}
    attach(network, places)
    export_onnx(network, tmp_path / "float.onnx", SIZE)
    images = [random_images(1, SIZE, seed=3)]  # others than those of the ranges, which are not found again
    ROUTES["onnxruntime"].quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", images, Choices(), 1, 2)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(tmp_path / "int8.onnx"), options, providers=["CPUExecutionProvider"])
    image = random_images(2, SIZE, seed=4)
    expected = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
    with torch.no_grad():
        apart = (network.predict(image) - expected).abs() / places.values["classifier:conv2d:0"].scale
    assert float(apart.mean()) < 0.05  # integers; maps that are resized lie between two of them


def test_what_cannot_be_placed_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    with pytest.raises(UserError, match=r"Attends cannot .* inside of one of torch's functions"):
        found(settled(Attends()))
    branched = Twins()
    branched.classifier = Branches(6, 3, 1)
    with pytest.raises(UserError, match="'classifier' in branches"):
        found(branched.eval())
    plain = module._placed

    def misplaced(*args: object) -> tuple[object, object, object]:
        calls, values, weights = plain(*args)  # type: ignore[arg-type]
        return calls, values, {k: v for k, v in weights.items() if k != "stem:conv2d:0"}

    monkeypatch.setattr(module, "_placed", misplaced)
    with pytest.raises(UserError, match="'stem:conv2d:0' gives differs from the file's by"):
        found(settled(Twins()))
