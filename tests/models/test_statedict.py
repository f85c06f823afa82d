"""State dicts in the forms in which other tools save them, read as tensors alone."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sampling import sampled
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from segkd.errors import UserError
from segkd.models import create, load_weights
from segkd.models.statedict import init_weights, named_as_in, read_state_dict


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(stem=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), head=nn.Conv2d(4, 5, 1)))


class Wrapped(nn.Module):
    """A module whose own names all begin as a wrapper's do."""

    def __init__(self) -> None:
        super().__init__()
        self.model = small()


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


TENSORS = small().state_dict()
OTHER = {name: value + 1 for name, value in TENSORS.items()}
FORMS: dict[str, Any] = {
    "plain": TENSORS,
    "state_dict": {"state_dict": TENSORS, "epoch": 3, "optimizer": {"lr": 0.1}},
    "model": {"model": TENSORS, "args": "text"},
    "model_state_dict": {"model_state_dict": TENSORS, "optimizer_state_dict": {}},
    "ema": {"ema": TENSORS},
    "model_ema": {"model_ema": TENSORS},
    "nested": {"model": {"state_dict": TENSORS}, "ema": OTHER},
    "trained before averaged": {"ema": OTHER, "model": TENSORS},
    "data parallel": {"model": nn.DataParallel(small()).state_dict()},
    "compiled": torch.compile(small()).state_dict(),
    "compiled and parallel": prefixed(TENSORS, "_orig_mod.module."),
    "averaged": {"model_ema": AveragedModel(small()).state_dict()},
    "net": {"net": prefixed(TENSORS, "net.")},
    "a network under its name": Wrapped().state_dict(),
    "lightning": {
        "pytorch-lightning_version": "2.5",
        "state_dict": {**prefixed(TENSORS, "model."), "loss.weight": torch.ones(5), "mean": torch.zeros(3)},
        "hyper_parameters": {"lr": 0.1},
    },
    "mmengine": {"meta": {"iter": 4}, "state_dict": TENSORS, "message_hub": {"log_scalars": {}}},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("zipped", [True, False])
def test_usual_forms(form: str, zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "file.pth"
    torch.save(FORMS[form], file, _use_new_zipfile_serialization=zipped)
    assert_same(read_state_dict(file), TENSORS)


def test_safetensors(tmp_path: Path) -> None:
    save_file(prefixed(TENSORS, "module."), tmp_path / "file.safetensors")
    assert_same(read_state_dict(tmp_path / "file.safetensors"), TENSORS)


def test_a_part_of_the_names_keeps_its_prefix(tmp_path: Path) -> None:
    tensors = {"model.a": torch.zeros(1), "head": torch.ones(1)}
    torch.save(tensors, tmp_path / "file.pth")
    assert_same(read_state_dict(tmp_path / "file.pth"), tensors)


def test_a_module_gets_its_own_prefix_back(tmp_path: Path) -> None:
    torch.save(nn.DataParallel(Wrapped()).state_dict(), tmp_path / "file.pth")
    network = Wrapped()
    assert_same(named_as_in(read_state_dict(tmp_path / "file.pth"), network), network.state_dict())


def test_weights_of_a_network_come_in_any_of_them(tmp_path: Path) -> None:
    network, other = create("fast_scnn", num_classes=3), create("fast_scnn", num_classes=3)
    torch.save({"model": nn.DataParallel(network).state_dict()}, tmp_path / "file.pth")
    load_weights(other, tmp_path / "file.pth")
    assert_same(other.state_dict(), network.state_dict())
    save_file(
        {k: v for k, v in network.state_dict().items() if not k.startswith("preprocess.")}, tmp_path / "w.safetensors"
    )
    with pytest.raises(UserError, match=r"fits FastSCNN but does not say its preprocessing: .*preprocess=dict\(mean="):
        load_weights(other, tmp_path / "w.safetensors")


class Trap:
    """Unpickled, it would write a file."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("sprung"),))


def made_by_mmengine() -> dict[str, Any]:
    from mmengine.logging import HistoryBuffer

    return {"message_hub": {"loss": HistoryBuffer(np.ones(2), np.ones(2))}, "state_dict": OrderedDict(TENSORS)}


CODE: dict[str, Any] = {
    "namespace": lambda: {"args": argparse.Namespace(lr=1), "model": TENSORS},
    "mmengine": made_by_mmengine,
    "module": small,
    "module in a dict": lambda: {"epoch": 1, "model": small()},
}


@pytest.mark.parametrize("form", sampled(CODE, 2))
def test_code_is_refused_and_the_cure_works(form: str, tmp_path: Path) -> None:
    torch.save(CODE[form](), tmp_path / "file.pth")
    with pytest.raises(UserError, match=r"holds code beside its tensors \([\w.]+\), which is not run; where") as caught:
        read_state_dict(tmp_path / "file.pth")
    assert "\n" not in str(caught.value)
    cure = "import torch; " + str(caught.value).partition("where it was made: ")[2]
    subprocess.run([sys.executable, "-c", cure], cwd=tmp_path, check=True)
    assert_same(read_state_dict(tmp_path / "tensors.pth"), TENSORS)


def test_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": TENSORS, "x": Trap()}, "file.pth")
    with pytest.raises(UserError, match="which is not run"):
        read_state_dict("file.pth")
    assert not Path("sprung").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights file not found: .*absent\.pth"):
        read_state_dict(tmp_path / "absent.pth")
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not tensors")
        with pytest.raises(UserError, match=rf"cannot read weights file .*{name}") as caught:
            read_state_dict(tmp_path / name)
        assert "\n" not in str(caught.value)
    torch.save({"epoch": 3, "optimizer": {}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth holds no state dict of tensors; its keys: epoch, optimizer"):
        read_state_dict(tmp_path / "other.pth")


def test_a_student_starts_from_weights_with_another_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained, student = create("fast_scnn", num_classes=7), create("fast_scnn", num_classes=3)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    torch.save(
        {"model": {**prefixed(trained.state_dict(), "module."), "module.aux.weight": torch.zeros(2)}},
        tmp_path / "w.pth",
    )
    lines = init_weights(student, tmp_path / "w.pth")
    heads = [name for name, value in trained.state_dict().items() if value.shape != before[name].shape]
    assert len(heads) == 2
    assert lines == [
        *(
            f"{n}: {tuple(trained.state_dict()[n].shape)} in the file, {tuple(before[n].shape)} in the network"
            for n in heads
        ),
        "aux: 1 tensor in the file alone",
    ]
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name] if name in heads else trained.state_dict()[name]), name


def test_an_encoder_starts_from_its_librarys_own_file(tmp_path: Path) -> None:
    library = timm.create_model("resnet18", num_classes=4)
    torch.save(library.state_dict(), tmp_path / "w.pth")
    student = create("timm", encoder="resnet18", num_classes=3, decoder_channels=16)
    lines = init_weights(student, tmp_path / "w.pth")
    assert lines[-1] == "fc: 2 tensors in the file alone"
    assert [line.partition(":")[0] for line in lines[:-1]] == ["classifier", "decoder", "preprocess"]
    assert torch.equal(student.encoder.layer4[1].conv2.weight, library.layer4[1].conv2.weight)  # type: ignore[union-attr,index]


def test_nothing_that_fits_is_refused(tmp_path: Path) -> None:
    torch.save(
        {"preprocess.mean": torch.zeros(3), "a.num_batches_tracked": torch.tensor(0), "a.weight": torch.zeros(3)},
        tmp_path / "w.pth",
    )
    with pytest.raises(UserError, match=r"w\.pth: no tensor fits FastSCNN by name and shape"):
        init_weights(create("fast_scnn", num_classes=3), tmp_path / "w.pth")
