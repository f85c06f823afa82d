"""``teacher_scale="auto"``: measured on the first batch, said, kept in the run's config, taken up on resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.losses.fitnet import FitNet
from segkd.models import Network
from segkd.training.build import build_dataset, build_train_loader
from segkd.training.config import Config
from segkd.training.configfile import load_config
from segkd.training.loop import train


class Pointwise(Network):
    """One convolution; its maps are as large as ``gain`` makes them."""

    def __init__(self, num_classes: int = 11, gain: float = 1.0) -> None:
        super().__init__(num_classes)
        self.body = nn.Conv2d(3, 8, 1)
        self.classifier = nn.Conv2d(8, num_classes, 1)
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.body(x) * self.gain)
        return logits


def config(gain: float = 1.0, **changes: Any) -> dict[str, Any]:
    bind = dict(student="classifier", teacher="classifier", loss=dict(type=FitNet), teacher_scale="auto")
    return dict(
        model=dict(
            type=Distiller,
            student=dict(type=Pointwise),
            teacher=dict(type=Pointwise, gain=gain),
            untrained_teacher=True,
            binds=dict(hint=bind, plain={**bind, "teacher_scale": 2.0}),
        ),
        data=dict(
            dataset=dict(type="synthetic", size=(32, 64), length=6),
            train=dict(split="train"),
            val=dict(split="val"),
            augment=dict(type="segkd.datasets.transforms.TrainTransform", crop_size=(32, 64)),
            batch_size=3,
        ),
        optim=dict(optimizer=dict(type="SGD", lr=1e-3)),
        schedule=dict(dict(steps=4, val_interval=2), **changes),
        engine=dict(log_interval=1, val_images=0),
    )


def test_the_factor_brings_the_first_batch_to_an_rms_of_one_and_stays_in_the_runs_config(tmp_path: Path) -> None:
    given = config(gain=0.01)
    train(given, tmp_path / "run")
    cfg = Config.of(given).with_steps(6)
    torch.manual_seed(0)
    model = Distiller(**{k: v for k, v in given["model"].items() if k != "type"})
    batch = next(iter(build_train_loader(cfg, build_dataset(cfg, "train"), 0, 4)))
    with torch.no_grad():
        teacher = model.teacher
        features = teacher.classifier(teacher.body(teacher.preprocess(batch["image"])) * 0.01)  # type: ignore[operator]
    kept = load_config(tmp_path / "run")["model"]["binds"]
    assert kept["hint"]["teacher_scale"] == float(f"{1 / float(features.double().square().mean().sqrt()):.2g}")
    assert kept["plain"]["teacher_scale"] == 2.0
    assert given["model"]["binds"]["hint"]["teacher_scale"] == "auto"
    notes = [json.loads(line).get("note") for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert f"hint: teacher_scale={kept['hint']['teacher_scale']:g}, measured on the first batch" in notes


def test_a_run_that_goes_on_keeps_its_factor(tmp_path: Path) -> None:
    train(config(), tmp_path / "whole")
    train(config(), tmp_path / "run", hooks=[Stop()])
    scale = load_config(tmp_path / "run")["model"]["binds"]["hint"]["teacher_scale"]
    train(config(), tmp_path / "run", resume=True)
    assert load_config(tmp_path / "run")["model"]["binds"]["hint"]["teacher_scale"] == scale
    weights = [torch.load(tmp_path / name / "student_last.pth", weights_only=True) for name in ("whole", "run")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


class Stop:
    """Ends a run after its second step."""

    def after_train_iter(self, training: Any, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        training.stop_training = batch_idx == 1


def test_features_of_nothing_but_zeros_have_no_factor(tmp_path: Path) -> None:
    given = config()
    given["model"]["binds"]["hint"] |= dict(student="body", teacher="body")
    given["model"]["teacher"] = Dark()
    with pytest.raises(UserError, match="bind 'hint': the teacher's features are 0 everywhere"):
        train(given, tmp_path / "run")


class Dark(Pointwise):
    """A network whose body gives nothing."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.body.weight)
        nn.init.zeros_(self.body.bias)  # type: ignore[arg-type]
