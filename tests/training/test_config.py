"""The typed config: the same checks from a file, ``--set`` and Python; own modules; what a run folder keeps."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import config
from torch import nn

from segkd.datasets.synthetic import SyntheticStreets
from segkd.errors import UserError
from segkd.models import Network
from segkd.segmentor import Segmentor
from segkd.training.build import build_dataset, build_student
from segkd.training.config import Config
from segkd.training.configfile import dump_config, load_config, objects_unwritten, textual
from segkd.training.loop import train
from segkd.training.overrides import override


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(schedul=1), "sets schedul, which means nothing; did you mean 'schedule'"),
        (dict(schedule=dict(steps=4, warmpu=1)), "schedule.warmpu, which means nothing; did you mean 'warmup'"),
        (dict(schedule=dict(steps=2.5)), "schedule.steps must be an integer"),
        (dict(schedule=dict()), "no schedule.steps: give it, or schedule.epochs"),
        (dict(schedule=dict(steps=3, epochs=1)), "give it, or schedule.epochs, and not both"),
        (dict(engine=dict(threads=100_000)), "engine.threads must be [0-9]+ or less here, got 100000"),
        (dict(engine=dict(channels_last=1)), "engine.channels_last must be True or False"),
        (dict(data=None), "the config has no data"),
        (dict(optim=dict(accumulate=2)), "no optim.optimizer: dict"),
        (dict(calibration=dict()), "calibration, which means nothing"),
        (dict(engine=dict(device="gpu")), "engine.device 'gpu' is no device; give auto, cpu, cuda or cuda:1"),
        (dict(engine=dict(device="cuda:99")), r"engine.device 'cuda:99': torch sees [0-9]+ GPUs here"),
        (dict(metrics=5), "metrics must be a list"),
        (dict(metrics=[dict(type="builtins.dict")]), "is no metric: it needs the methods reset, update, compute"),
    ],
)
def test_python_is_checked_as_files_are(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    cfg = {**config(), **changes}
    with pytest.raises(UserError, match=message):
        train(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_epochs_are_steps_and_validate_once_each(tmp_path: Path) -> None:
    cfg = config(schedule=dict(steps=None, val_interval=None, epochs=2))  # 12 images in batches of 4
    metrics = train(cfg, tmp_path / "run")
    assert metrics["steps"] == 6
    lasting = Config.of(cfg).with_steps(13).schedule
    assert (lasting.steps, lasting.val_interval) == (7, 4)


def test_a_config_of_dataclasses_goes_to_a_file_and_back(tmp_path: Path) -> None:
    cfg = Config.of(config("distilled"))
    dump_config(cfg.to_dict(), tmp_path / "config.py")
    assert textual(Config.of(load_config(tmp_path)).to_dict()) == textual(cfg.to_dict())


OWN = """
import torch
from segkd.datasets.synthetic import SyntheticStreets
from segkd.datasets.transforms import TrainTransform
from segkd.models.fast_scnn import FastSCNN
from segkd.segmentor import Segmentor
from my_hook_{0} import Count

model = dict(type=Segmentor, network=dict(type=FastSCNN, num_classes=11))
data = dict(
    dataset=dict(type=SyntheticStreets, size=(48, 64)), train=dict(length=4), val=dict(split="val", length=1),
    augment=dict(type=TrainTransform, crop_size=(48, 64)), batch_size=2,
)
optim = dict(optimizer=dict(type=torch.optim.SGD, lr=0.01))
schedule = dict(steps={1})
hooks = [dict(type=Count)]
"""
HOOK = """
class Count:
    seen = []

    def after_train_iter(self, training, batch_idx, data_batch, outputs):
        self.seen.append(training.iter)
"""


def test_modules_beside_a_config_are_found_by_it_and_by_its_run(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_hook_a.py").write_text(HOOK)
    (folder / "my_config.py").write_text(OWN.format("a", 2))
    train(load_config(folder / "my_config.py"), tmp_path / "run")
    from my_hook_a import Count  # type: ignore[import-not-found]

    assert Count.seen == [0, 1]
    sys.path.remove(str(folder))
    sys.modules.pop("my_hook_a")
    cfg = load_config(tmp_path / "run", ["schedule.steps=3"])
    train(cfg, tmp_path / "run", resume=True)
    assert sys.modules["my_hook_a"].Count.seen == [2]


def test_modules_in_the_working_directory_are_found(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_hook_b.py").write_text(HOOK)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "my_config.py").write_text(OWN.format("b", 1))
    monkeypatch.chdir(tmp_path)
    assert load_config("there/my_config.py")["hooks"]


def test_a_config_that_raises_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\ny = x / 0\n")
    with pytest.raises(UserError, match=rf"cannot read config {path}, line 2: ZeroDivisionError: division by zero"):
        load_config(path)


class Brightness:
    """A metric of a user's: the mean predicted class."""

    def reset(self) -> None:
        self.sum, self.count = 0.0, 0

    def update(self, prediction: Any, label: Any) -> None:
        assert prediction.shape == label.shape
        self.sum, self.count = self.sum + float(prediction.float().sum()), self.count + prediction.numel()

    def compute(self) -> float:
        return self.sum / self.count


def test_own_metrics_are_computed_and_may_choose_the_best(tmp_path: Path) -> None:
    cfg = config(engine=dict(best="Brightness")) | dict(metrics=[dict(type=Brightness)])
    metrics = train(cfg, tmp_path / "run")
    assert set(metrics["val_last"]) == {"Brightness"}
    assert metrics["val_best"]["Brightness"] >= metrics["val_last"]["Brightness"]
    other = config(engine=dict(best="mIou"))
    with pytest.raises(UserError, match=r"engine.best='mIou' is none of the scores; did you mean 'mIoU'"):
        train(other, tmp_path / "other")


class Plain(Network):
    """A network of a user's."""

    def __init__(self, num_classes: int, *, width: int = 4) -> None:
        super().__init__(num_classes)
        self.layer = nn.Conv2d(3, width, 1)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.layer(x))
        return logits


def test_objects_are_written_by_what_they_were_made_of(tmp_path: Path) -> None:
    given = copy.deepcopy(Plain(11, width=5))
    cfg = {**config(), "model": dict(type=Segmentor, network=given), "extra": Path("a"), "low": -math.inf}
    cfg["data"]["train"] = SyntheticStreets(4, size=(48, 64))
    dump_config(cfg, tmp_path / "config.py")
    found = load_config(tmp_path, [])
    assert found["model"]["network"] == dict(type=f"{__name__}.Plain", num_classes=11, width=5)
    assert build_student(found).classifier.weight.shape == (11, 5, 1, 1)
    assert len(build_dataset(found, "train")) == 4
    assert textual(cfg)["extra"] == "a"
    assert "low = float('-inf')" in (tmp_path / "config.py").read_text()


def test_what_no_file_can_hold_is_refused_where_it_is_needed(tmp_path: Path) -> None:
    class Local(Plain):
        pass

    for given, what in ((Local(11), "the Local object"), (nn.Conv2d(3, 11, 1), "the Conv2d object")):
        cfg = {**config(), "model": dict(type=Segmentor, network=given)}
        assert [text.startswith("model.network: ") for text in objects_unwritten(textual(cfg))] == [True]
        dump_config(cfg, tmp_path / "config.py")
        found = load_config(tmp_path)
        assert len(build_dataset(found, "val")) > 0
        with pytest.raises(UserError, match=rf"{what}.* was given from Python and is in no file: give it again"):
            build_student(found)


def test_an_override_may_be_a_fraction() -> None:
    cfg = {"model": {"teacher": {"type": "any", "preprocess": None}}}
    override(cfg, "model.teacher.preprocess=dict(scale=1/255, mean=(1/2, 0))")
    assert cfg["model"]["teacher"]["preprocess"] == {"scale": 1 / 255, "mean": (0.5, 0)}
    override(cfg, "model.teacher.preprocess=None")
    override(cfg, "model.teacher.preprocess=1/0")
    assert cfg["model"]["teacher"]["preprocess"] == "1/0"
