"""A disk that is full: each file that is made names itself in the error, and what was there before stays."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from pyramid_net import SIZE, PyramidNet

from segkd.deploy.onnx import export_onnx
from segkd.deploy.parity import random_images
from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.tail import make_labels
from segkd.deploy.tensorrt import quantize_tensorrt

Make = Callable[[Path], object]


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which ONNX files end after ten bytes, as no space is left."""
    folder, save = tmp_path / "full", onnx.save_model

    def save_model(model: onnx.ModelProto, path: str, *arguments: object, **options: object) -> None:
        if Path(path).parent != folder:
            save(model, path, *arguments, **options)
            return
        Path(path).write_bytes(model.SerializeToString()[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(onnx, "save_model", save_model)
    folder.mkdir()
    (folder / "made.onnx").write_text("an earlier file")
    return folder


@pytest.mark.parametrize("what", ["export", "labels", "onnxruntime", "tensorrt"])
def test_nothing_half_written(full: Path, exported: Path, net: PyramidNet, what: str) -> None:
    images = [random_images(1, SIZE)]
    makes: dict[str, Make] = {
        "export": lambda path: export_onnx(net, path, SIZE),
        "labels": lambda path: make_labels(exported, path, "full"),
        "onnxruntime": lambda path: quantize_onnx(exported, path, images),
        "tensorrt": lambda path: quantize_tensorrt(exported, path, images),
    }
    with pytest.raises(OSError, match="No space left on device") as caught:
        makes[what](full / "made.onnx")
    assert caught.value.filename == str(full / "made.onnx")  # the command line prints it with the reason, in a line
    assert [path.name for path in full.iterdir()] == ["made.onnx"]
    assert (full / "made.onnx").read_text() == "an earlier file"
