from __future__ import annotations

import copy
import logging
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from pyramid_net import CLASSES, SIZE, PyramidNet
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.deploy import onnx as writing
from segkd.deploy import parity as export
from segkd.deploy.onnx import ExportReport, export_onnx
from segkd.deploy.parity import ExportError, compare_logits, random_images
from segkd.deploy.runtimes import OnnxRuntime
from segkd.errors import UserError
from segkd.models.base import Network


def onnx_logits(path: Path, image: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])


def torch_logits(network: Network, image: Tensor) -> Tensor:
    training = network.training
    network.eval()
    with torch.no_grad():
        logits = network.predict(image)
    network.train(training)
    return logits


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_file_computes_what_the_network_does(net: PyramidNet, exported: Path, batch: int) -> None:
    image = torch.randint(0, 256, (batch, 3, *SIZE), dtype=torch.uint8)
    expected, got = torch_logits(net, image), onnx_logits(exported, image)
    assert got.shape == (batch, 3, *SIZE)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_report_and_network_left_alone(net: PyramidNet, report: ExportReport) -> None:
    assert net.training
    assert net.dropout.training
    assert [p.batch for p in report.parity] == [1, 3]
    assert all(p.relative_difference < 1e-4 and p.argmax_agreement > 0.9999 for p in report.parity)
    assert report.file_bytes == Path(report.path).stat().st_size
    assert report.ops["MatMul"] == 8  # 2, 3, 6 and 5 x 7: two each
    assert "GatherND" not in report.ops
    assert "AveragePool" not in report.ops
    assert report.as_dict()["parity"][0]["batch"] == 1


def test_file_is_alone_and_holds_no_path_of_this_machine(exported: Path, net: PyramidNet) -> None:
    assert not list(exported.parent.glob("*.data"))
    assert not list(exported.parent.glob(".*"))
    assert str(Path(__file__).parents[2]).encode() not in exported.read_bytes()
    weights = sum(p.numel() for p in net.parameters()) * 4
    assert exported.stat().st_size < weights + 40_000
    onnx.checker.check_model(str(exported), full_check=True)


def test_inputs_outputs_and_metadata(exported: Path) -> None:
    graph = onnx.load(str(exported)).graph
    shape = [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert (graph.input[0].name, shape) == ("image", ["batch", 3, *SIZE])
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.output[0].name == "logits"
    metadata = OnnxRuntime(exported).metadata
    assert metadata["size"] == list(SIZE)
    assert metadata["class_names"] == list(CLASSES)
    assert metadata["palette"] == [[9, 8, 7]]
    assert metadata["preprocess"]["inside"] is True
    assert metadata["preprocess"]["order"] == [2, 1, 0]


def test_wide_and_preprocess_outside(net: PyramidNet, wide: Path) -> None:
    image = random_images(2, (64, 96), seed=7)
    expected = torch_logits(net, image)
    torch.testing.assert_close(onnx_logits(wide, net.preprocess(image)), expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(OnnxRuntime(wide).predict(image), expected, rtol=0, atol=1e-3)


def test_tall(net: PyramidNet, tmp_path: Path) -> None:
    report = export_onnx(net, tmp_path / "new" / "tall.onnx", (96, 64))
    assert report.size == (96, 64)
    image = random_images(3, (96, 64), seed=7)
    torch.testing.assert_close(onnx_logits(Path(report.path), image), torch_logits(net, image), rtol=0, atol=1e-3)


def test_fast_scnn(tmp_path: Path) -> None:
    from segkd.models.fast_scnn import FastSCNN

    torch.manual_seed(0)
    report = export_onnx(FastSCNN(num_classes=11), tmp_path / "fast.onnx", (90, 122))
    assert max(p.relative_difference for p in report.parity) < 1e-5
    assert "GatherND" not in report.ops


@pytest.mark.parametrize(("name", "value"), [("MAX_RELATIVE_DIFFERENCE", -1.0), ("MIN_ARGMAX_AGREEMENT", 1.1)])
def test_gate_refuses_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    monkeypatch.setattr(export, name, value)
    monkeypatch.setattr(export, "MAX_ROUNDING", -1.0)
    numbers = (
        r"differs from the network at batch 1, 32x40: logits by \d\.\d\de.\d+ of the largest .* 1\.0+ of the pixels"
    )
    with pytest.raises(ExportError, match=numbers):
        export_onnx(Plain(2), tmp_path / "net.onnx", (32, 40))
    assert list(tmp_path.iterdir()) == []


class Drifting(Network):
    """Differs from its own trace: a Python counter, frozen in the graph, changes the logits of later calls."""

    def __init__(self) -> None:
        super().__init__(2)
        self.calls = 0
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.conv(x) + self.calls


class Enlarging(Network):
    """Enlarges what float32 loses by ``factor``; its trace adds ``error`` to the logits."""

    def __init__(self, factor: float, error: float = 0.0) -> None:
        super().__init__(2)
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 2, 9)
        self.factor, self.error = factor, error

    def forward(self, x: Tensor) -> Tensor:
        logits = (self.factor * F.interpolate(self.conv(x), x.shape[-2:])).sin()
        return logits + self.error if torch.compiler.is_compiling() else logits


@pytest.mark.parametrize(
    ("factor", "error", "refused"), [(1, 0, False), (300, 0, False), (1, 3e-4, True), (300, 1e-2, True), (3e5, 0, True)]
)
def test_rounding_that_the_network_enlarges_is_told_from_a_wrong_file(
    tmp_path: Path, factor: float, error: float, refused: bool
) -> None:
    net, path = Enlarging(factor, error), tmp_path / "net.onnx"
    if refused:
        with pytest.raises(ExportError, match="differs from the network"):
            export_onnx(net, path, (32, 40))
        return
    for parity in export_onnx(net, path, (32, 40)).parity:
        image = random_images(parity.batch, (32, 40), seed=parity.batch)
        exact, near = copy.deepcopy(net).double()(net.preprocess(image).double()), net.predict(image)
        own, files = (float((x - exact).abs().max() / exact.abs().max()) for x in (near, onnx_logits(path, image)))
        assert files <= max(export.ALLOWANCE * own, 1e-4)
        assert parity.rounding == (pytest.approx(own, rel=1e-3) if parity.relative_difference > 1e-4 else 0)


class Growing(Network):
    """Leaves the exporter no chance: branches on values."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2] if float(x.sum()) > 0 else -x[:, :2]


def test_wrong_file_and_failing_exporter_leave_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"earlier")
    for network, message in ((Drifting(), "differs from the network"), (Growing(2), "cannot export Growing at 32x40")):
        with pytest.raises(ExportError, match=message) as caught:
            export_onnx(network, path, (32, 40))
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, UserError)
    unstable = Drifting()
    unstable.unstable = 0.05
    with pytest.raises(ExportError, match="differs from the network"):
        export_onnx(unstable, path, (32, 40))
    assert path.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


def test_export_is_silent(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    with caplog.at_level(logging.INFO):
        export_onnx(Plain(2), tmp_path / "net.onnx", (32, 40), check_batches=(1,))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not recwarn.list
    assert logging.root.manager.disable == 0


class Plain(Network):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.conv = nn.Conv2d(3, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def test_class_names_must_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 class names for a network of 2 classes"):
        export_onnx(Plain(2), tmp_path / "net.onnx", (32, 40), class_names=CLASSES)


def test_only_what_chooses_by_rounding_is_left_out() -> None:
    """Max unpooling; measured for ENet."""
    from segkd.models.enet import ENet

    assert ENet(2).unstable == 0.05
    assert ENet(2, upsampling="bilinear").unstable == 0


def test_comparison_by_hand() -> None:
    expected = torch.tensor([[[[1.0, -4.0]], [[0.0, 2.0]]]])
    got = torch.tensor([[[[1.0, -4.0]], [[1.5, 2.0]]]])
    parity = compare_logits(expected, got)
    assert (parity.relative_difference, parity.argmax_agreement) == (1.5 / 4, 0.5)
    half = compare_logits(expected, got, unstable=0.5)  # the pixel that differs is left out
    assert (half.relative_difference, half.argmax_agreement, half.compared) == (0, 1, 0.5)
    assert compare_logits(expected, got, unstable=0.49) == parity
    assert compare_logits(expected, got[:, :1]).argmax_agreement == 0
    assert compare_logits(expected, got * torch.nan).relative_difference == float("inf")


class Three(Network):
    """Three convolutions."""

    def __init__(self) -> None:
        super().__init__(2)
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.third(self.second(self.first(x))), x.shape[-2:], mode="bilinear")


def test_the_first_operation_that_differs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(model: onnx.ModelProto, *rest: object) -> None:
        clean(model, *rest)
        weight = next(item for item in model.graph.initializer if "second.weight" in item.name)
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.1, weight.name))

    clean = writing._clean
    monkeypatch.setattr(writing, "_clean", spoil)
    torch.manual_seed(0)
    with pytest.raises(ExportError, match=r"they first differ at Conv '.*' \(conv2d_1\)"):
        export_onnx(Three(), tmp_path / "net.onnx", (32, 40))
    monkeypatch.undo()
    with pytest.raises(ExportError, match="otherwise than its trace: Python state"):
        export_onnx(Drifting(), tmp_path / "net.onnx", (32, 40))


def test_any_size_and_fixed_batch(net: PyramidNet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Three()
    report = export_onnx(network, tmp_path / "any.onnx", (64, 96), any_size=True)
    assert (report.size, report.compared[2:]) == (None, ((1, 101, 81), (1, 48, 128)))
    for size in ((32, 32), (45, 131)):
        image = random_images(2, size, seed=3)
        torch.testing.assert_close(OnnxRuntime(tmp_path / "any.onnx").predict(image), torch_logits(network, image))
    with pytest.raises(ExportError, match=r"PyramidNet for images of any size: it pools to a grid.* for each size"):
        export_onnx(net, tmp_path / "grid.onnx", SIZE, any_size=True)
    fixed = export_onnx(network, tmp_path / "two.onnx", (32, 40), batch=2)
    shape = onnx.load(str(tmp_path / "two.onnx")).graph.input[0].type.tensor_type.shape
    assert (fixed.batch, [d.dim_value for d in shape.dim]) == (2, [2, 3, 32, 40])


@pytest.mark.parametrize("opset", [18, 21])
def test_the_opset_is_what_the_file_has(tmp_path: Path, opset: int) -> None:
    report = export_onnx(Plain(2), tmp_path / "net.onnx", (32, 40), opset=opset, check_batches=(1,))
    (own,) = (item.version for item in onnx.load(str(tmp_path / "net.onnx")).opset_import if not item.domain)
    assert report.opset == own == opset
    with pytest.raises(UserError, match=r"opset must be 18 to 23, .* got 13"):
        export_onnx(Plain(2), tmp_path / "net.onnx", (32, 40), opset=13)
