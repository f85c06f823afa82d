"""Costs of terms beside their student: what is slow on purpose is found, all parts of a term are in it."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor

from segkd.datasets.synthetic import SyntheticStreets
from segkd.datasets.transforms import TrainTransform
from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.losses.kd import PixelwiseKD
from segkd.models.fast_scnn import FastSCNN
from segkd.segmentor import Segmentor
from segkd.workbench.term_costs import time_terms

LONG = 0.3  # seconds
NET = dict(type=FastSCNN, num_classes=11)
LOGITS = dict(student="classifier", teacher="classifier")


class Counted(PixelwiseKD):
    """Takes its time in the value, the gradient and after the step; says when the student's tap got a gradient."""

    steps = gradients = 0

    def forward(self, student: Any, *args: Any, **options: Any) -> Tensor:
        time.sleep(LONG)
        student = student * 1  # of this call alone, where the tap's own hooks would stay
        student.register_hook(self.note)
        return super().forward(student, *args, **options)

    def note(self, grad: Tensor) -> None:
        assert grad.abs().max() > 0
        time.sleep(LONG)
        Counted.gradients += 1

    def after_step(self) -> None:
        time.sleep(LONG)
        Counted.steps += 1


def config(model: dict[str, Any], **augment: Any) -> dict[str, Any]:
    return dict(
        model=model,
        data=dict(
            dataset=dict(type=SyntheticStreets, size=(64, 64)),
            train=dict(length=2),
            val=dict(split="val", length=2),
            augment=dict(type=TrainTransform, **augment),
            batch_size=2,
        ),
        schedule=dict(steps=3),
        optim=dict(optimizer=dict(type=torch.optim.AdamW, lr=1e-3)),
    )


def test_every_term_is_timed_beside_the_student() -> None:
    weights = dict(weights="nowhere.pth")  # not read
    off = dict(LOGITS, loss=dict(type="kd"), weight=0.0)
    binds = dict(
        slow=dict(LOGITS, loss=dict(type=Counted)), off=off, critic=dict(LOGITS, loss=dict(type="skd_holistic"))
    )
    model = dict(type=Distiller, student=NET, teacher=NET | weights, binds=binds)
    made: list[Distiller] = []
    rows = time_terms(config(model, crop_size=(64, 64)), 2, made.append)
    assert [row["bind"] for row in rows] == ["slow", "off", "critic"]
    assert [row["loss"] for row in rows] == ["Counted", "PixelwiseKD", "Holistic"]
    slow, quick, _ = rows
    assert slow["ms"] >= 3e3 * LONG
    assert quick["ms"] < slow["ms"]
    assert slow["ratio"] > 3 * quick["ratio"]
    assert all(0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in rows)
    assert slow["cpu_ratio"] < slow["ratio"]  # it sleeps
    assert Counted.steps == Counted.gradients == 4  # two to warm up, two turns
    assert all(p.grad is None for p in made[0].parameters())


def test_what_cannot_be_timed_is_named() -> None:
    with pytest.raises(UserError, match="no teacher"):
        time_terms(config(dict(type=Segmentor, network=NET), crop_size=(64, 64)))
    with pytest.raises(UserError, match="crop_size"):
        time_terms(config(dict(type=Segmentor, network=NET)))
