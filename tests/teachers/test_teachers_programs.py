"""Teachers that are ONNX, TorchScript and torch.export files."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from teachers_kit import assert_equal, image, normalised, stirred
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.deploy.onnx import export_onnx
from segkd.errors import UserError
from segkd.models import Preprocess
from segkd.models.own import OwnNetwork
from segkd.teachers import load_teacher
from segkd.teachers.programs import ProgramNetwork

PLAIN = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class Net(nn.Module):
    """Logits at a quarter of the size, and what a test asks for instead."""

    def __init__(self, last: str = "logits") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 3, padding=1))
        self.last = last

    def forward(self, x: Tensor) -> Any:
        out = self.body(x)
        if self.last == "ids":
            return out.argmax(1)
        return out.softmax(1) if self.last == "probabilities" else out


def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def to_onnx(model: nn.Module, file: Path, size: tuple[int, int], free: dict[int, str] | None = None) -> Path:
    shapes = (dict.fromkeys(free, torch.export.Dim.DYNAMIC),) if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(2 if free else 1, 3, *size),), file, dynamo=True, dynamic_shapes=shapes, verbose=False
        )
    return file


def to_script(model: nn.Module, file: Path, size: tuple[int, int] = (64, 64)) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, torch.zeros(1, 3, *size)), file)
    return file


def to_export(model: nn.Module, file: Path, size: tuple[int, int], free: bool = False) -> Path:
    shapes = (
        ({0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},) if free else None
    )
    torch.export.save(
        torch.export.export(model, (torch.zeros(2 if free else 1, 3, *size),), dynamic_shapes=shapes), file
    )
    return file


def test_onnx_of_free_size(tmp_path: Path) -> None:
    model = stirred(Net())
    file = to_onnx(model, tmp_path / "net.onnx", (64, 96), {0: "batch", 2: "height", 3: "width"})
    for source in (file, f"onnx:{file}", f"onnx:@{file}"):
        teacher = load_teacher(source, preprocess=PLAIN, num_classes=5)
        with torch.no_grad():
            assert_equal(teacher.predict(image(batch=3)), resized(model(normalised(image(batch=3))), (97, 131)))
    assert list(teacher.parameters()) == []


def test_onnx_of_one_size_and_batch(tmp_path: Path) -> None:
    model = stirred(Net())
    teacher = load_teacher(to_onnx(model, tmp_path / "net.onnx", (97, 131)), preprocess=PLAIN)
    assert isinstance(teacher, ProgramNetwork)
    assert (teacher.size, teacher.batch) == ((97, 131), 1)
    with torch.no_grad():
        assert_equal(teacher.predict(image(batch=2)), resized(model(normalised(image(batch=2))), (97, 131)))
        inside = F.interpolate(normalised(image((60, 70))), size=(97, 131), mode="bilinear")
        assert_equal(teacher.predict(image((60, 70))), resized(model(inside), (60, 70)))


@pytest.mark.parametrize("inside", [True, False])
def test_onnx_of_segkd_says_all_itself(inside: bool, tmp_path: Path) -> None:
    network = OwnNetwork(stirred(Net()), 5, Preprocess((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), channels="BGR"))
    names = ["road", "car", "sky", "tree", "void"]
    export_onnx(
        network, tmp_path / "n.onnx", (97, 131), include_preprocess=inside, class_names=names, check_batches=(1,)
    )
    teacher = load_teacher(tmp_path / "n.onnx", classes=["sky", "road"])
    with torch.no_grad():
        assert_equal(teacher.predict(image(batch=2)), network.predict(image(batch=2))[:, [2, 0]])
    wrong = pytest.raises(UserError, match=r"takes images as they are, 0..255: leave out mean")
    if inside:
        with wrong:
            load_teacher(tmp_path / "n.onnx", preprocess=PLAIN)


def graph(path: Path, op: str, kind: int, shape: list[Any], inputs: int = 1, out: int | None = None) -> Path:
    values = [helper.make_tensor_value_info(f"in{i}", kind, shape) for i in range(inputs)]
    nodes = [helper.make_node("Cast", ["in0"], ["x"], to=TensorProto.FLOAT)]
    if op == "ArgMax":
        nodes.append(helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0))
    elif op == "Softmax":
        nodes.append(helper.make_node("Softmax", ["x"], ["y"], axis=1))
    else:
        nodes.append(helper.make_node(op, ["x"], ["y"]))
    element = TensorProto.INT64 if op == "ArgMax" else TensorProto.FLOAT
    result = helper.make_tensor_value_info("y", element, None)
    made = helper.make_graph(nodes, "g", values, [result])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return path


def test_onnx_of_bytes_and_of_half_floats(tmp_path: Path) -> None:
    file = graph(tmp_path / "bytes.onnx", "Neg", TensorProto.UINT8, ["n", 3, "h", "w"])
    assert torch.equal(load_teacher(file).predict(image()), -image().float())
    bgr = load_teacher(file, preprocess=dict(mean=(0, 0, 0), std=(1, 1, 1), scale=1, channels="BGR"))
    assert torch.equal(bgr.predict(image()), -image().flip(1).float())
    file = graph(tmp_path / "half.onnx", "Neg", TensorProto.FLOAT16, ["n", 3, "h", "w"])
    found = load_teacher(file, preprocess=PLAIN).predict(image())
    torch.testing.assert_close(found, -normalised(image()), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ("ArgMax", TensorProto.FLOAT, [1, 3, 8, 8]),
            r"gives no logits but \(1, 8, 8\) torch.int64, such as class ids",
        ),
        (("Softmax", TensorProto.FLOAT, [1, 3, 8, 8]), "gives probabilities, not logits; export the network without"),
        (
            ("Neg", TensorProto.FLOAT, [1, 8, 8, 3]),
            r"must take an image \(N, 3, H, W\), uint8 or float; its input 'in0'",
        ),
        (
            ("Neg", TensorProto.INT64, [1, 3, 8, 8]),
            r"uint8 or float; its input 'in0' is \(1, 3, 8, 8\) tensor\(int64\)",
        ),
        (("Neg", TensorProto.FLOAT, [1, 3, 8, 8], 2), "must take an image alone; its inputs: in0, in1"),
        (("Neg", TensorProto.FLOAT, [1, 3, "h", 8]), "one fixed side"),
        (("Neg", TensorProto.FLOAT, ["n", 3, "h", "w"]), r"does not say its preprocessing: give preprocess=dict\("),
    ],
)
def test_onnx_files_that_are_refused(values: tuple[Any, ...], message: str, tmp_path: Path) -> None:
    file = graph(tmp_path / "g.onnx", *values)
    with pytest.raises(UserError, match=message) as caught:
        load_teacher(file, preprocess=None if "preprocessing" in message else PLAIN)
    assert "\n" not in str(caught.value)


def test_onnx_that_fails_at_a_size_says_so(tmp_path: Path) -> None:
    model = stirred(nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 5, 1)))
    made = to_onnx(model, tmp_path / "n.onnx", (64, 64))
    content = onnx.load(made)
    for side, name in ((2, "h"), (3, "w")):  # it claims to take any size, and does not
        content.graph.input[0].type.tensor_type.shape.dim[side].dim_param = name
    last = content.graph.output[0].name
    content.graph.node.append(helper.make_node("Reshape", [last, "shape"], ["flat"]))
    content.graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [4], [1, 5, 16, 16]))
    content.graph.output[0].CopyFrom(helper.make_tensor_value_info("flat", TensorProto.FLOAT, [1, 5, 16, 16]))
    onnx.save(content, made)
    teacher = load_teacher(made, preprocess=PLAIN)
    with pytest.raises(UserError, match=r"n\.onnx fails on an image of 97x131, batch 1: ") as caught:
        teacher.predict(image())
    assert "\n" not in str(caught.value)


def test_torchscript(tmp_path: Path) -> None:
    model = stirred(Net())
    for source in (
        to_script(model, tmp_path / "n.pt"),
        f"torchscript:{tmp_path / 'n.pt'}",
        f"onnx:{tmp_path / 'n.pt'}",
    ):
        teacher = load_teacher(source, preprocess=PLAIN)
        with torch.no_grad():
            assert_equal(teacher.predict(image(batch=2)), resized(model(normalised(image(batch=2))), (97, 131)))
    assert not any(p.requires_grad for p in teacher.program.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("free", [True, False])
def test_torch_export(free: bool, tmp_path: Path) -> None:
    model = stirred(Net())
    teacher = load_teacher(to_export(model, tmp_path / "n.pt2", (97, 131), free), preprocess=PLAIN)
    assert isinstance(teacher, ProgramNetwork)
    assert (teacher.size, teacher.batch) == ((None, None) if free else ((97, 131), 1))
    with torch.no_grad():
        for size in ((97, 131), (64, 80)):
            x = normalised(image(size, batch=2))
            x = x if free else F.interpolate(x, size=(97, 131), mode="bilinear")
            assert_equal(teacher.predict(image(size, batch=2)), resized(model(x), size))
    teacher.to("cpu").train()


@pytest.mark.parametrize("write", [to_script, to_export])
@pytest.mark.parametrize(("last", "message"), [("ids", "gives no logits but"), ("probabilities", "not logits")])
def test_programs_without_logits(write: Callable[..., Path], last: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_teacher(write(Net(last).eval(), tmp_path / "n.pt2", (64, 64)), preprocess=PLAIN)


@pytest.mark.parametrize("write", [to_script, to_export])
def test_programs_say_no_preprocessing(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not say its preprocessing: give preprocess=dict\("):
        load_teacher(write(Net().eval(), tmp_path / "n.pt2", (64, 64)))


class Trap:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("sprung"),))


def edited(file: Path, end: str, edit: Callable[[bytes], bytes]) -> Path:
    """A copy of an archive in which the file whose name ends so is another."""
    made = file.with_name("edited.pt2")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(made, "w") as new:
        assert any(name.endswith(end) for name in old.namelist())
        for name in old.namelist():
            new.writestr(name, edit(old.read(name)) if name.endswith(end) else old.read(name))
    return made


def test_code_in_an_exported_program_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = to_export(Net().eval(), tmp_path / "n.pt2", (64, 64), free=True)
    assert load_teacher(edited(file, "/model.json", bytes), preprocess=PLAIN).num_classes == 5
    torch.save((Trap(),), "trap.pt")
    with pytest.raises(UserError, match=r"cannot read .*edited\.pt2 as torch.export wrote it"):
        load_teacher(edited(file, "sample_inputs/model.pt", lambda _: Path("trap.pt").read_bytes()), preprocess=PLAIN)
    for size in ("Symbol('a').__class__", "exec(chr(49))", "Symbol('a').subs", "Symbol('a b')", "_x(1)"):
        text = f'"expr_str": "{size}"'.encode()
        made = edited(file, "/model.json", lambda old, new=text: re.sub(rb'"expr_str": "[^"]*"', new, old))  # type: ignore[misc]
        with pytest.raises(UserError, match=rf"holds code beside its graph \({re.escape(size)}\), which is not run"):
            load_teacher(made, preprocess=PLAIN)
    pickled = lambda text: b'{"config": {"a": {"path_name": "opaque_obj_0"}}}'  # noqa: E731
    with pytest.raises(UserError, match=r"holds code beside its graph \(opaque_obj_0\)"):
        load_teacher(edited(file, "model_constants_config.json", pickled), preprocess=PLAIN)
    assert not Path("sprung").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_damaged_files(tmp_path: Path) -> None:
    for name, message in (("n.onnx", "cannot read .* as ONNX"), ("n.pt2", "cannot read weights file")):
        (tmp_path / name).write_bytes(b"nothing of that kind")
        with pytest.raises(UserError, match=message):
            load_teacher(tmp_path / name)
    with pytest.raises(UserError, match="neither a TorchScript nor a torch"):
        load_teacher(f"torchscript:{tmp_path / 'n.pt2'}")
    with pytest.raises(UserError, match=r"no such file: absent.onnx; an ONNX teacher is onnx:FILE"):
        load_teacher("onnx:absent.onnx")
