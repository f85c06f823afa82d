"""Labels in the graph: each tail against torch's own computation, for float and int8 files, padded and unpadded."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from pyramid_net import SIZE
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.deploy import tail as module
from segkd.deploy.onnx import export_onnx
from segkd.deploy.parity import random_images
from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.runtimes import OnnxRuntime
from segkd.deploy.tail import End, find_end, make_labels, tails_of
from segkd.errors import UserError
from segkd.models.base import Network


class Coarse(Network):
    """Logits at an eighth of an image padded to a multiple of 32, resized and cut, as padding networks do."""

    def __init__(self, num_classes: int = 5, corners: bool = False) -> None:
        super().__init__(num_classes)
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, num_classes, 8, 8)
        self.corners = corners

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % 32, 0, -height % 32), mode="replicate")
        logits = F.interpolate(self.conv(padded), size=padded.shape[-2:], mode="bilinear", align_corners=self.corners)
        return logits[..., :height, :width]


def by_torch(network: Coarse, image: Tensor, part: int | None) -> Tensor:
    """The labels by plain torch, written out anew."""
    captured: list[Tensor] = []
    handle = network.conv.register_forward_hook(lambda *args: captured.append(args[2]))
    with torch.no_grad():
        full = network.eval().predict(image)
    handle.remove()
    rows, columns = (side + -side % 32 for side in image.shape[-2:])
    size = captured[0].shape[-2:] if part is None else (-(-rows // part), -(-columns // part))
    labels = F.interpolate(captured[0], size=size, mode="bilinear", align_corners=network.corners).argmax(1)
    if part == 1:
        assert torch.equal(labels[:, : full.shape[2], : full.shape[3]], full.argmax(1))
    row, column = (torch.arange(n) * k // n for n, k in ((rows, size[0]), (columns, size[1])))
    return labels[:, row][:, :, column][:, : image.shape[2], : image.shape[3]]


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize(("tail", "part"), [("full", 1), ("half", 2), ("quarter", 4), ("native", None)])
def test_labels_are_torchs(tmp_path: Path, tail: str, part: int | None, corners: bool) -> None:
    network = Coarse(corners=corners)
    export_onnx(network, tmp_path / "net.onnx", (56, 90))
    assert make_labels(tmp_path / "net.onnx", tmp_path / "labels.onnx", tail) > 0.9999
    runtime = OnnxRuntime(tmp_path / "labels.onnx")
    image = random_images(3, (56, 90), seed=9)
    labels = runtime.labels(image)
    assert (labels.dtype, labels.shape) == (torch.uint8, (3, 56, 90))
    assert float((labels == by_torch(network, image, part)).double().mean()) > 0.999
    onnx.checker.check_model(str(tmp_path / "labels.onnx"), full_check=True)


def test_the_end_is_found(exported: Path, tmp_path: Path) -> None:
    assert find_end(onnx.load(str(exported))).size == (23, 30)
    assert tails_of(onnx.load(str(exported))) == ("full", "half", "native")  # a quarter is its own size
    export_onnx(Coarse(), tmp_path / "net.onnx", (56, 90))
    end = find_end(onnx.load(str(tmp_path / "net.onnx")))
    assert (end.size, end.padded, end.crop, end.corners) == ((8, 12), (64, 96), (56, 90), False)
    assert tails_of(onnx.load(str(tmp_path / "net.onnx"))) == ("full", "half", "quarter", "native")


def test_logits_made_at_full_size_have_one_tail(tmp_path: Path) -> None:
    class Fine(Network):
        def __init__(self) -> None:
            super().__init__(2)
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    export_onnx(Fine(), tmp_path / "net.onnx", (32, 40), check_batches=(1,))
    assert tails_of(onnx.load(str(tmp_path / "net.onnx"))) == ("full",)
    make_labels(tmp_path / "net.onnx", tmp_path / "full.onnx")
    with pytest.raises(UserError, match="at 32x40, so that 'half' would not differ: choose among full"):
        make_labels(tmp_path / "net.onnx", tmp_path / "half.onnx", "half")
    assert not (tmp_path / "half.onnx").exists()


@pytest.mark.parametrize("op_types", ["conv", "all"])
def test_int8_files_get_labels_too(exported: Path, tmp_path: Path, op_types: str) -> None:
    quantize_onnx(exported, tmp_path / "int8.onnx", [random_images(4, SIZE, seed=1)], op_types=op_types)
    assert tails_of(onnx.load(str(tmp_path / "int8.onnx"))) == ("full", "half", "native")
    make_labels(tmp_path / "int8.onnx", tmp_path / "labels.onnx", "half")
    image = random_images(2, SIZE, seed=5)
    near = OnnxRuntime(exported).labels(image)
    assert float((OnnxRuntime(tmp_path / "labels.onnx").labels(image) == near).double().mean()) > 0.9


def test_sizes_other_than_the_files(exported: Path, tmp_path: Path) -> None:
    make_labels(exported, tmp_path / "labels.onnx", "half")
    image = random_images(2, (60, 70), seed=5)
    runtime = OnnxRuntime(tmp_path / "labels.onnx", resize=True)
    assert runtime.labels(image).shape == (2, 60, 70)
    with pytest.raises(UserError, match="gives labels alone; export one with --output logits"):
        runtime.predict(image)
    with pytest.raises(UserError, match="gives labels already"):
        make_labels(tmp_path / "labels.onnx", tmp_path / "again.onnx")
    with pytest.raises(UserError, match=r"there is no tail 'haf'; .*half"):
        make_labels(exported, tmp_path / "again.onnx", "haf")


def test_labels_that_are_not_torchs_are_refused(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = module.taken
    monkeypatch.setattr(module, "taken", lambda native, end, tail: true(native, end, tail).roll(1, -1))
    with pytest.raises(UserError, match=r"agree with torch's in 0\.\d+ of the pixels only .* no file was written"):
        make_labels(exported, tmp_path / "labels.onnx")
    assert not (tmp_path / "labels.onnx").exists()


def test_an_end_says_where_classes_are_taken() -> None:
    end = End("logits", (8, 12), (63, 95), (60, 90))
    assert [end.target(name) for name in ("full", "half", "quarter", "native")] == [
        (63, 95),
        (32, 48),
        (16, 24),
        (8, 12),
    ]
