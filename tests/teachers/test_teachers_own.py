"""Teachers of a user's own code."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
import torch
from teachers_kit import assert_equal, image, normalised
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.teachers import load_teacher

CODE = '''
import torch
from torch import nn

class MyNet(nn.Module):
    """Logits at a quarter of the size, in a dict; every tensor is below `model.`."""
    def __init__(self, num_classes=4):
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, num_classes, 1))
    def forward(self, x):
        return {"features": x, "logits": self.model(x)}

class Fixed(nn.Module):
    class_names = ("road", "car", "sky")
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 3, 1)
    def forward(self, x):
        return self.head(x), x

class Flat(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))

class Needy(Fixed):
    def __init__(self, width):
        super().__init__()

def trained():
    torch.manual_seed(1)
    return Fixed()

def number():
    return 3

net = trained()
'''
count = itertools.count()


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the working directory, which is not on the import path."""
    name = f"my_module_{next(count)}"
    (tmp_path / f"{name}.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    return name


@pytest.mark.parametrize("dot", [":", "."])
@pytest.mark.parametrize("given", [None, 6])
def test_a_class_with_its_file(dot: str, given: int | None, code: str) -> None:
    load_teacher(f"{code}:trained")  # so that it can be imported here
    torch.manual_seed(0)
    model = sys.modules[code].MyNet(6).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, "w.pth")
    teacher = load_teacher(f"{code}{dot}MyNet@w.pth", num_classes=given)
    with torch.no_grad():
        expected = F.interpolate(model(normalised(image()))["logits"], size=image().shape[-2:], mode="bilinear")
        assert_equal(teacher.predict(image()), expected)
        own = dict(mean=(100, 110, 120), std=(50, 60, 70), scale=1, channels="BGR")
        stated = load_teacher(f"{code}:MyNet@w.pth", num_classes=given, preprocess=own)
        x = (image().float().flip(1) - torch.tensor([100.0, 110, 120]).view(1, 3, 1, 1)) / torch.tensor(
            [50.0, 60, 70]
        ).view(1, 3, 1, 1)
        expected = F.interpolate(model(x)["logits"], size=image().shape[-2:], mode="bilinear")
        assert_equal(stated.predict(image()), expected)


def test_without_num_classes_and_as_function_or_object(code: str) -> None:
    for source in (f"{code}:trained", f"{code}.net"):
        teacher = load_teacher(source)
        with torch.no_grad():
            assert_equal(teacher.predict(image()), sys.modules[code].trained()(normalised(image()))[0])
        assert teacher.class_names == ["road", "car", "sky"]
    torch.save(sys.modules[code].trained().state_dict(), "w.pth")
    teacher = load_teacher(f"{code}:Fixed@w.pth", classes=["sky", "road"])
    with torch.no_grad():
        assert_equal(teacher.predict(image()), sys.modules[code].trained()(normalised(image()))[0][:, [2, 0]])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{}:MyNet", "is a class, so what it makes is untrained: name its weights"),
        ("{}:MyNett@w.pth", "has no 'MyNett'; did you mean 'MyNet'"),
        ("{}x:MyNet@w.pth", r"cannot import '{}x' \(ModuleNotFoundError: "),
        ("broken:MyNet@w.pth", r"cannot import 'broken' \(ZeroDivisionError: division by zero\)$"),
        ("{}:MyNet@absent.pth", "no such file: absent.pth"),
        ("{}:MyNet@w.pth", "weights of another network than MyNet: "),
        ("{}:Needy@w.pth", "Needy: missing a required argument: 'width'"),
        ("{}:Flat@flat.pth", "Flat must give logits"),
        ("{}:number", "makes no torch module but int"),
        ("{}:CODE", "has no 'CODE'"),
        ("{}:__name__", "is neither a class, a function nor a torch module"),
    ],
)
def test_mistakes(source: str, message: str, code: str) -> None:
    torch.save({"a": torch.zeros(1)}, "w.pth")
    torch.save({"a": torch.zeros(1)}, "flat.pth")
    Path("broken.py").write_text("1 / 0", encoding="utf-8")
    if "Flat" in source:
        source, message = "{}:flat_net", "Flat must give logits"
        Path(f"{code}.py").write_text(CODE + "\ndef flat_net():\n    return Flat()\n", encoding="utf-8")
    with pytest.raises(UserError, match=message.format(code)) as caught:
        load_teacher(source.format(code), num_classes=4)
    assert "\n" not in str(caught.value)


def test_another_number_of_classes_is_refused(code: str) -> None:
    with pytest.raises(UserError, match="gives 3 classes, not 5; say by classes="):
        load_teacher(f"{code}:trained", num_classes=5)
