"""int8 files for TensorRT and OpenVINO: what is in them, and that they compute what the float file does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from pyramid_net import CLASSES, SIZE, PyramidNet

from segkd.deploy import openvino as openvino_face
from segkd.deploy.graphs import signed_activations
from segkd.deploy.parity import random_images
from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.runtimes import OnnxRuntime
from segkd.deploy.tail import make_labels
from segkd.deploy.tensorrt import problems_of, quantize_tensorrt
from segkd.errors import UserError


@pytest.fixture(scope="module")
def calibration() -> list[torch.Tensor]:
    return [random_images(4, SIZE, seed=100 + i) for i in range(2)]


@pytest.fixture(scope="module")
def trt(exported: Path, tmp_path_factory: pytest.TempPathFactory, calibration: list[torch.Tensor]) -> Path:
    path = tmp_path_factory.mktemp("trt") / "trt.onnx"
    report = quantize_tensorrt(exported, path, calibration)
    assert (report.route, report.int8_ops, report.float_ops) == ("tensorrt", 3, 8)  # the pooling matrices stay
    assert report.path == str(path)
    return path


def test_tensorrt_zero_points_and_biases(trt: Path) -> None:
    model = onnx.load(str(trt))
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    rounded = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert rounded
    for node in rounded:
        assert constants[node.input[2]].dtype == np.int8
        assert not constants[node.input[2]].any()
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert [made.get(name) for name in node.input] == ["DequantizeLinear", "DequantizeLinear", None]
            (scale,) = (n.input[1] for n in rounded if n.output[0] == node.input[1])
            assert len(constants[scale]) == constants[_weight(model, node)].shape[0]  # one for each output channel
    metadata = OnnxRuntime(trt).metadata
    assert metadata["class_names"] == list(CLASSES)
    assert metadata["quantization"]["images"] == 8
    assert len(metadata["quantization"]["calibration"]) == 64


def _weight(model: onnx.ModelProto, node: onnx.NodeProto) -> str:
    return next(n.input[0] for n in model.graph.node if n.output[0] == node.input[1])


def test_tensorrt_file_computes_what_the_float_file_does(exported: Path, trt: Path) -> None:
    image = random_images(4, SIZE, seed=5)
    same = OnnxRuntime(trt).labels(image) == OnnxRuntime(exported).labels(image)
    assert float(same.double().mean()) > 0.95


def test_what_tensorrt_refuses_is_found(exported: Path, tmp_path: Path, calibration: list[torch.Tensor]) -> None:
    quantize_onnx(exported, tmp_path / "u8.onnx", calibration)
    found = "\n".join(problems_of(onnx.load(str(tmp_path / "u8.onnx"))))
    assert "has uint8 values with zero point" in found
    assert "has a quantised bias" in found


def test_a_node_can_stay_float(exported: Path, tmp_path: Path, calibration: list[torch.Tensor]) -> None:
    nodes = [node.name for node in onnx.load(str(exported)).graph.node if node.op_type == "Conv"]
    report = quantize_onnx(exported, tmp_path / "kept.onnx", calibration, keep_float=nodes[:1])
    assert report.ops["QLinearConv"] == 2
    with pytest.raises(UserError, match="no node 'conv_x' to keep float"):
        quantize_onnx(exported, tmp_path / "none.onnx", calibration, keep_float=["conv_x"])
    assert not (tmp_path / "none.onnx").exists()


def test_labels_can_be_quantised(exported: Path, tmp_path: Path, calibration: list[torch.Tensor]) -> None:
    make_labels(exported, tmp_path / "labels.onnx", "half")
    report = quantize_onnx(tmp_path / "labels.onnx", tmp_path / "int8.onnx", calibration, op_types="all")
    assert report.sqnr_db is None
    assert report.argmax_agreement > 0.95
    made = {name: node.op_type for node in onnx.load(str(tmp_path / "int8.onnx")).graph.node for name in node.output}
    (taken,) = (node for node in onnx.load(str(tmp_path / "int8.onnx")).graph.node if node.op_type == "ArgMax")
    assert made[taken.input[0]] == "Resize"  # not rounded before the strongest is taken


@pytest.mark.alone
def test_openvino(exported: Path, tmp_path: Path, calibration: list[torch.Tensor]) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    from segkd.deploy.openvino import OpenVinoRuntime
    from segkd.deploy.quantize_openvino import quantize_openvino

    report = quantize_openvino(exported, tmp_path / "int8.xml", calibration)
    assert report.route == "openvino"
    assert report.sqnr_db is not None
    assert report.sqnr_db > 15
    assert report.argmax_agreement > 0.95
    assert report.int8_ops >= 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8.bin", "int8.xml"]
    runtime = OpenVinoRuntime(tmp_path / "int8.xml")
    assert runtime.metadata["class_names"] == list(CLASSES)
    assert runtime.file_size == sum(path.stat().st_size for path in tmp_path.iterdir()) == report.int8_bytes
    for count in (1, 3):
        image = random_images(count, SIZE, seed=7)
        expected = OnnxRuntime(exported).predict(image)
        torch.testing.assert_close(OpenVinoRuntime(exported).predict(image), expected, rtol=0, atol=1e-3)
        same = runtime.labels(image) == expected.argmax(1)
        assert float(same.double().mean()) > 0.95
    (tmp_path / "int8.bin").unlink()
    with pytest.raises(UserError, match=r"int8\.bin"):
        OpenVinoRuntime(tmp_path / "int8.xml")


@pytest.mark.alone
def test_openvino_compiles_each_shape_once(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    from segkd.deploy import openvino

    shapes: list[int] = []
    compile_shape = openvino.OpenVinoRuntime.compile

    def counted(runtime: openvino.OpenVinoRuntime, shape: tuple[int, ...]) -> object:
        shapes.append(shape[0])
        return compile_shape(runtime, shape)

    monkeypatch.setattr(openvino.OpenVinoRuntime, "compile", counted)
    monkeypatch.setattr(openvino, "KEPT_SHAPES", 2)
    runtime = openvino.OpenVinoRuntime(exported)
    for count in (1, 2, 1, 3, 1, 2):  # 2 is the one that had not been used for longest when 3 came
        runtime.labels(random_images(count, SIZE))
    assert shapes == [1, 2, 3, 2]


@pytest.mark.alone
def test_openvino_gives_labels(exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from segkd.deploy.openvino import OpenVinoRuntime

    image = random_images(2, SIZE, seed=7)
    for tail in ("full", "half", "native"):
        make_labels(exported, tmp_path / f"{tail}.onnx", tail)
        got, expected = (face(tmp_path / f"{tail}.onnx").labels(image) for face in (OpenVinoRuntime, OnnxRuntime))
        assert got.dtype == torch.uint8
        assert float((got == expected).double().mean()) > 0.9999


@pytest.mark.alone
def test_openvino_refuses(
    trt: Path, exported: Path, tmp_path: Path, net: PyramidNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    from segkd.deploy.openvino import OpenVinoRuntime

    assert signed_activations(onnx.load(str(trt)))
    with pytest.raises(UserError, match="signed int8 activations, with which OpenVINO computes wrongly"):
        OpenVinoRuntime(trt)
    with pytest.raises(UserError, match="f32 or bf16, not in 'f16'"):
        OpenVinoRuntime(exported, precision="f16")
    (tmp_path / "broken.xml").write_text("<net>")
    (tmp_path / "broken.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"OpenVINO cannot read .*broken\.xml"):
        OpenVinoRuntime(tmp_path / "broken.xml")
    foreign = onnx.load(str(exported))
    del foreign.metadata_props[:]
    onnx.save_model(foreign, str(tmp_path / "foreign.onnx"))
    with pytest.raises(UserError, match="was not written by segkd"):
        OpenVinoRuntime(tmp_path / "foreign.onnx")
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(UserError, match=r"openvino is not installed: pip install 'segkd\[openvino\]'"):
        openvino_face.import_extra("openvino")


@pytest.mark.alone
def test_unsigned_int8_files_run_in_openvino(exported: Path, tmp_path: Path, calibration: list[torch.Tensor]) -> None:
    pytest.importorskip("openvino")
    from segkd.deploy.openvino import OpenVinoRuntime

    quantize_onnx(exported, tmp_path / "u8.onnx", calibration)
    assert not signed_activations(onnx.load(str(tmp_path / "u8.onnx")))
    image = random_images(2, SIZE, seed=7)
    same = OpenVinoRuntime(tmp_path / "u8.onnx").labels(image) == OnnxRuntime(tmp_path / "u8.onnx").labels(image)
    assert float(same.double().mean()) > 0.99
