"""Teachers that segkd trained, and teachers in configs and run folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from teachers_kit import assert_equal, image, stirred
from torch import nn

import segkd
from segkd.distiller import Distiller, build_teacher
from segkd.errors import UserError
from segkd.models import NETWORKS, create
from segkd.models.own import OwnNetwork
from segkd.registry import description
from segkd.teachers import load_teacher
from segkd.teachers.sources import parse
from segkd.training.configfile import dump_config, load_config, textual

CONFIG = """
model = dict(
    type="segkd.segmentor.Segmentor",
    network=dict(type="segkd.models.fast_scnn.FastSCNN", num_classes=3, weights="gone.pth"),
)
data = dict(dataset=dict(type="folder", root="gone", class_names=["road", "car", "sky"]), train={}, val={}, augment={})
optim = dict(optimizer=dict(type="SGD", lr=0.1))
schedule = dict(steps=2)
"""


@pytest.fixture
def network() -> Any:
    made = stirred(create("fast_scnn", num_classes=3))
    made.preprocess.mean.add_(0.1)
    return made


def test_a_file_by_the_name_of_its_network(network: Any, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "w.pth")
    teacher = load_teacher(f"segkd:fast_scnn@{tmp_path / 'w.pth'}")
    with torch.no_grad():
        assert_equal(teacher.predict(image()), network.predict(image()))
    other = stirred(create("espnet_c", num_classes=7))
    torch.save(other.state_dict(), tmp_path / "w.pth")
    with torch.no_grad():
        assert_equal(load_teacher(f"segkd:espnet_c@{tmp_path / 'w.pth'}").predict(image()), other.predict(image()))


def test_a_file_without_preprocessing_names_the_option(network: Any, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({k: v for k, v in network.state_dict().items() if not k.startswith("preprocess.")}, file)
    with pytest.raises(UserError, match=r"w\.pth does not say its preprocessing: give preprocess=dict\(mean="):
        load_teacher(f"segkd:fast_scnn@{file}")
    teacher = load_teacher(f"segkd:fast_scnn@{file}", preprocess=dict(mean=(0, 0, 0), std=(1, 1, 1)))
    with torch.no_grad():
        assert_equal(teacher.predict(image()), network(image().float() / 255))
    for wrong, message in (
        ({"means": 1}, "Preprocess has no argument 'means'"),
        ({"channels": "GRB"}, "channels must be 'RGB' or 'BGR'"),
        ((1, 2), r"preprocess is given as dict\(mean="),
    ):
        with pytest.raises(UserError, match=message):
            load_teacher(f"segkd:fast_scnn@{file}", preprocess=wrong)  # type: ignore[arg-type]


def test_run_folders_and_files_in_them(network: Any, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(CONFIG, encoding="utf-8")
    with pytest.raises(UserError, match=r"holds no trained student yet: none of student_best\.pth"):
        load_teacher(tmp_path)
    torch.save(create("fast_scnn", num_classes=3).state_dict(), tmp_path / "student_last.pth")
    torch.save(network.state_dict(), tmp_path / "student_best.pth")
    for source in (tmp_path, tmp_path / "student_best.pth", f"segkd:{tmp_path}"):
        teacher = load_teacher(source)
        with torch.no_grad():
            assert_equal(teacher.predict(image()), network.predict(image()))
    (tmp_path / "state.pth").write_bytes(b"")
    with pytest.raises(UserError, match="is a run's state, to resume from"):
        load_teacher(tmp_path / "state.pth")


def test_a_real_run_knows_its_classes_and_teaches_from_a_config(tmp_path: Path) -> None:
    scenes = dict(type="synthetic", size=(64, 96), length=4)
    words: dict[str, Any] = dict(data=scenes, steps=2, batch=2, progress=False, preflight=False)  # taught too briefly
    first = segkd.train("fast_scnn", out=tmp_path / "first", **words)
    names = load_teacher(tmp_path / "first").class_names
    assert names is not None
    teacher = dict(type=load_teacher, source=str(tmp_path / "first"), num_classes=len(names), classes=list(names))
    run = segkd.distill("fast_scnn", teacher, out=tmp_path / "second", **words)
    written = load_config(tmp_path / "second")["model"]["teacher"]
    assert written == {**teacher, "type": "segkd.teachers.load_teacher"}
    with torch.no_grad():
        expected = first.student.predict(image())
        assert torch.equal(build_teacher(written).predict(image()), expected)
    again = segkd.distill("fast_scnn", load_teacher(tmp_path / "first"), out=tmp_path / "third", **words)
    kept = load_config(again.folder)["model"]["teacher"]
    assert torch.equal(build_teacher(kept).predict(image()), expected)
    assert run.metrics["steps"] == 2


def test_a_config_holds_the_function_and_is_read_back(tmp_path: Path) -> None:
    library = stirred(smp.create_model("fpn", "resnet18", encoder_weights=None, classes=4))
    torch.save(library.state_dict(), tmp_path / "w.pth")
    source = f"smp:fpn/resnet18@{tmp_path / 'w.pth'}"
    cfg = dict(type=load_teacher, source=source, num_classes=2, classes=[2, [0, 1]], preprocess=dict(scale=1.0))
    dump_config(dict(model=dict(teacher=cfg)), tmp_path / "part.py")
    names: dict[str, Any] = {}
    exec((tmp_path / "part.py").read_text(), names)
    assert names["model"]["teacher"] == {**cfg, "type": "segkd.teachers.load_teacher"}
    teacher = NETWORKS.build(names["model"]["teacher"])
    assert textual(teacher) == names["model"]["teacher"]
    assert description(teacher) == cfg
    model = Distiller(
        dict(type="fast_scnn", num_classes=2), cfg, dict(logits=dict(student="", teacher="", loss=dict(type="kd")))
    )
    torch.testing.assert_close(model.teacher.predict(image()), teacher.predict(image()))


def test_a_program_teaches_though_it_has_no_parameters(tmp_path: Path) -> None:
    from segkd.deploy.onnx import export_onnx

    network = OwnNetwork(nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 3, 1)), 3)
    export_onnx(network, tmp_path / "n.onnx", (64, 96), check_batches=(1,))
    model = Distiller(
        dict(type="fast_scnn", num_classes=3),
        dict(type=load_teacher, source=str(tmp_path / "n.onnx")),
        dict(logits=dict(student="", teacher="", loss=dict(type="kd"))),
    )
    x = image((64, 96), batch=2)
    terms = model(x, torch.zeros(2, 64, 96, dtype=torch.long))
    sum(terms.values()).backward()
    given = model.teach(x)["logits"][""]
    with torch.no_grad():
        assert_equal(given, network.predict(x))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "the teacher's source is empty"),
        ("absent.pth", "no teacher 'absent.pth': neither a file or folder that is there, nor KIND:NAME@FILE"),
        ("work/absent", "no teacher 'work/absent': neither a file"),
        ("smpp:fpn/resnet18@{}", "no kind of teacher is called 'smpp'; did you mean 'smp'"),
        ("smp:fpn/resnet18@absent.pth", "teacher smp:fpn/resnet18@absent.pth: no such file: absent.pth"),
        ("smp:", "names nothing; the form is KIND:NAME@FILE"),
        ("segkd:fast_scn@{}", "unknown network 'fast_scn'; did you mean 'fast_scnn'"),
        ("segkd:fast_scnn", "segkd:fast_scnn has no weights"),
        ("segkd:{}", r"is in no run folder; say whose weights these are, segkd:NAME@"),
        ("torchvision:{}", "say which model of torchvision that is"),
        ("timm:{}", "say which encoder of timm that is"),
    ],
)
def test_sources_that_are_refused(source: str, message: str, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=message) as caught:
        load_teacher(source.format(tmp_path / "w.pth"))
    assert "\n" not in str(caught.value)


def test_folders_that_say_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"says not what it is: a run folder holds config\.py, one of save_pretrained"):
        load_teacher(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*config\.json"):
        load_teacher(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "segformer"}')
    assert parse(tmp_path) == ("hf", None, tmp_path)


def test_names_and_files_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w@1.pth").write_bytes(b"")
    assert parse("smp:fpn/resnet18@w@1.pth") == ("smp", "fpn/resnet18", Path("w@1.pth"))
    assert parse("onnx:w@1.pth") == ("onnx", None, Path("w@1.pth"))
    assert parse("hf:some/name") == ("hf", "some/name", None)
    assert parse("my_module:MyNet@w@1.pth") == ("own", "my_module:MyNet", Path("w@1.pth"))
    assert parse("package.module.MyNet") == ("own", "package.module.MyNet", None)


def test_every_kind_is_named_in_the_docstring() -> None:
    from segkd.teachers.sources import KINDS

    text = load_teacher.__doc__ or ""
    named = set(re.findall(r"``(\w+):", text))
    assert named >= set(KINDS) - {"torchscript", "export"}
