from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from pyramid_net import SIZE, PyramidNet
from torch.nn import functional as F

from segkd.deploy.formats import load_runtime
from segkd.deploy.parity import random_images
from segkd.deploy.runtimes import OnnxRuntime, TorchRuntime
from segkd.errors import UserError
from segkd.evaluation.inference import evaluate


def test_one_face(net: PyramidNet, exported: Path) -> None:
    image = random_images(2, SIZE, seed=3)
    first, second = load_runtime(net), load_runtime(str(exported))
    assert isinstance(first, TorchRuntime)
    assert isinstance(second, OnnxRuntime)
    torch.testing.assert_close(first.predict(image), second.predict(image), rtol=0, atol=1e-3)
    assert (first.num_classes, second.num_classes) == (3, 3)
    assert (first.size, second.size) == (None, SIZE)
    assert second.file_size == exported.stat().st_size
    assert first.file_size == sum(t.numel() * t.element_size() for t in net.state_dict().values())
    batch = {"image": image, "label": image.argmax(1)}
    assert evaluate(first.predict, [batch], 3) == evaluate(second.predict, [batch], 3)
    assert (
        evaluate(first.predict, [batch], 3).miou > 40
    )  # it learned the rule; noise pixels are out of reach at stride 4
    net.train()


def test_threads(net: PyramidNet, exported: Path) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    runtime = TorchRuntime(net, threads=1)
    handle = net.head.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    runtime.predict(random_images(1, (40, 52)))
    handle.remove()
    net.train()
    assert seen == [1]
    assert torch.get_num_threads() == before
    options = OnnxRuntime(exported, threads=1).session.get_session_options()
    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_another_size_is_refused_or_resized(exported: Path) -> None:
    image = random_images(1, (70, 100))
    with pytest.raises(UserError, match=r"90x120 \(HxW\), not 70x100"):
        load_runtime(exported).predict(image)
    got = load_runtime(exported, resize=True).predict(image)
    inside = F.interpolate(image.float(), size=SIZE, mode="bilinear").round().to(torch.uint8)
    want = F.interpolate(load_runtime(exported).predict(inside), size=(70, 100), mode="bilinear")
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("image", [torch.zeros(1, 3, *SIZE), torch.zeros(3, *SIZE, dtype=torch.uint8)])
def test_only_uint8_batches(exported: Path, image: torch.Tensor) -> None:
    with pytest.raises(UserError, match="uint8"):
        load_runtime(exported).predict(image)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such ONNX file: .*absent\.onnx"):
        load_runtime(tmp_path / "absent.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(UserError, match=r"cannot read .*broken\.onnx as ONNX") as caught:
        load_runtime(broken)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"weights\.pth is not a file that predicts"):
        load_runtime(tmp_path / "weights.pth")


def test_foreign_file(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 8, 8])
    result = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 3, 8, 8])
    node = onnx.helper.make_node("Relu", ["image"], ["logits"])
    graph = onnx.helper.make_graph([node], "g", [value], [result])
    path = tmp_path / "foreign.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), str(path))
    with pytest.raises(UserError, match="not written by segkd"):
        load_runtime(path)
