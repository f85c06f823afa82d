"""First stages: they run before the main training, freeze what has learnt, are kept, and are not run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import Watch, config
from torch import nn

from segkd.engine.build import build_model
from segkd.engine.checkpoint import STATE
from segkd.engine.train import train
from segkd.errors import UserError
from segkd.losses import DistillationLoss
from segkd.losses.kd import PixelwiseKD

SGD = dict(type=torch.optim.SGD, lr=0.05)
KEY = "binds.own.loss.level"


class Learning(DistillationLoss):
    """The student against a level that has learnt the mean of the teacher's features."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(5.0))

    def first_stage_parameters(self) -> list[nn.Parameter]:
        return [self.level]

    def first_stage_loss(self, teacher: Any) -> torch.Tensor:
        return (self.level - teacher.mean()).square()

    def forward(self, student: Any, teacher: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return (student.mean() - self.level).square()


def learning(steps: int = 60, loss: Any = Learning, **bind: Any) -> dict[str, Any]:
    cfg = config("distilled")
    stage = dict(steps=steps, optimizer=SGD)
    taps = dict(student="classifier", teacher="classifier")
    cfg["model"]["binds"] = {"own": taps | dict(loss=dict(type=loss), first_stage=stage) | bind}
    return cfg


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_it_learns_from_the_teacher_and_then_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    watch = Watch()
    train(learning(), run, hooks=[watch])
    model = build_model(learning())
    means = [model.teach(batch["image"])["own"]["classifier"].mean() for batch in watch.batches]
    kept = torch.load(run / "first_stage_own.pth", weights_only=True)["bind.loss.level"]
    assert float(kept) == pytest.approx(float(torch.stack(means).mean()), abs=0.5)  # it began at 5
    assert torch.equal(kept, torch.load(run / STATE, weights_only=True)["model"][KEY])
    losses = [record["loss"] for record in log(run) if "first_stage" in record]
    assert len(losses) == 60
    assert losses[-1] < 0.1 * losses[0]


def test_student_and_batches_of_the_main_training_are_untouched_by_it(tmp_path: Path) -> None:
    watches = []
    for steps in (0, 3):
        watches.append(Watch())
        train(learning(steps), tmp_path / f"run{steps}", hooks=[watches[-1]])
    for key, value in watches[0].weights[0].items():
        assert torch.equal(value, watches[1].weights[0][key]), key
    assert torch.equal(watches[0].batches[0]["image"], watches[1].batches[0]["image"])


def test_a_resumed_run_does_not_run_it_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(learning(5), run, hooks=[Watch(crash_at=1)])  # after the first stage, before the first state
    assert not (run / STATE).exists()
    kept = (run / "first_stage_own.pth").read_bytes()
    seen: list[Any] = []
    train(learning(5), run, resume=True, on_first_stage=seen.append)
    assert seen == []
    assert (run / "first_stage_own.pth").read_bytes() == kept
    level = torch.load(run / STATE, weights_only=True)["model"][KEY]
    assert float(level) != 5
    train(
        learning(5) | dict(schedule=dict(steps=5, val_interval=5, warmup=1)),
        run,
        resume=True,
        on_first_stage=seen.append,
    )
    assert seen == []
    assert torch.equal(level, torch.load(run / STATE, weights_only=True)["model"][KEY])


def test_other_losses_train_the_student_first(tmp_path: Path) -> None:
    watch = Watch()
    train(learning(40, loss=PixelwiseKD, weight=0.0), tmp_path / "run", hooks=[watch])
    losses = [record["loss"] for record in log(tmp_path / "run") if "first_stage" in record]
    assert losses[-1] < losses[0]
    main = [record["loss_bind_own"] for record in log(tmp_path / "run") if "loss_bind_own" in record]
    assert set(main) == {0.0}
    untouched = Watch()
    train(learning(0, loss=PixelwiseKD, weight=0.0), tmp_path / "other", hooks=[untouched])
    name = "classifier.weight" if "classifier.weight" in watch.weights[0] else next(iter(watch.weights[0]))
    assert not torch.equal(watch.weights[0][name], untouched.weights[0][name])


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'own'.*first_stage=dict"):
        train(learning(first_stage=None), tmp_path / "run")
    with pytest.raises(UserError, match=r"'own'.*first_stage.steps must be a whole number from 0, got 1.5"):
        train(learning(first_stage=dict(steps=1.5, optimizer=SGD)), tmp_path / "run")
    with pytest.raises(UserError, match=r"'own'.*needs optimizer"):
        train(learning(first_stage=dict(steps=3)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_remainder_of_accumulated_steps_is_used(tmp_path: Path) -> None:
    """One step, two to accumulate: it counts in full."""
    levels = []
    for accumulate in (1, 2):
        cfg = learning(1)
        cfg["optim"]["accumulate"] = accumulate
        run = tmp_path / f"run{accumulate}"
        train(cfg, run)
        levels.append(float(torch.load(run / STATE, weights_only=True)["model"][KEY]))
    assert levels[0] != 5
    assert levels[1] == levels[0]
