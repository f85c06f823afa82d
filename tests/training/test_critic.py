"""A loss with an adversary: alternation, its own optimiser, accumulation, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import Watch, config
from torch import Tensor, nn

from segkd.errors import UserError
from segkd.losses import DistillationLoss
from segkd.segmentor import TrainingModel
from segkd.training.build import build_model
from segkd.training.config import Config
from segkd.training.loop import train
from segkd.training.optim import CRITIC, Minimizer, build_minimizers
from segkd.training.precision import Precision
from segkd.training.state import STATE
from segkd.training.steps import Stretch, take_step

SGD = dict(type=torch.optim.SGD, lr=0.01)


class Duel(DistillationLoss):
    """A linear critic of the mean over positions; keeps what it was given."""

    def prepare(self, student_shapes: Any, teacher_shapes: Any, teacher_modules: Any) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.critic = nn.Linear(student_shapes[0][1], 1)
        self.seen: list[Tensor] = []

    def critic_parameters(self) -> list[nn.Parameter]:
        return list(self.critic.parameters())

    def judge(self, x: Tensor) -> Tensor:
        return self.critic(x.mean((2, 3))).mean()

    def critic_loss(self, student: Any, teacher: Any, *, image: Tensor | None, draw: Any) -> Tensor:
        assert not student.requires_grad
        assert not teacher.requires_grad
        assert image is not None
        self.seen.append(student)
        return self.judge(student) - self.judge(teacher)

    def forward(self, student: Any, teacher: Any, *args: Any, **kwargs: Any) -> Tensor:
        self.given = student.detach()
        return -self.judge(student)


def duel(steps: int = 4, optim: dict[str, Any] | None = None, **bind: Any) -> dict[str, Any]:
    cfg = config("distilled", schedule=dict(steps=steps, val_interval=2))
    cfg["model"]["binds"] = dict(own=dict(student="classifier", teacher="classifier", loss=dict(type=Duel), **bind))
    cfg["optim"] |= optim or {}
    return cfg


def batch() -> dict[str, Tensor]:
    torch.manual_seed(0)
    image = torch.randint(0, 256, (2, 3, 48, 64), dtype=torch.uint8)
    return dict(image=image, label=torch.randint(0, 11, (2, 48, 64)), index=torch.arange(2))


def step(model: TrainingModel, minimizers: dict[str, Minimizer]) -> dict[str, Tensor]:
    precision = Precision("fp32", "cpu")

    def nothing(*_: Any) -> None:
        return None

    stretch = Stretch(model, lambda b: model(**b), minimizers, precision, [], 0, 0, nothing, nothing)
    return take_step(stretch, batch())


def test_one_step_moves_student_and_critic_each_by_its_own_loss() -> None:
    cfg = duel(optim=dict(optimizer=SGD, critic=SGD | dict(lr=0.5)), weight=2.0)
    model = build_model(cfg).train()
    minimizers = build_minimizers(Config.of(cfg), model)
    loss = model.terms()["own"].loss
    weight = loss.critic.weight.detach().clone()
    logged = step(model, minimizers)
    # the critic's gradient: mean of the student's features less the teacher's, on the student's very features
    assert len(loss.seen) == 1
    assert torch.equal(loss.seen[0], loss.given)
    teacher = model.teach(batch()["image"])["own"]["classifier"]
    expected = weight - 0.5 * (loss.given.mean((2, 3)).mean(0) - teacher.mean((2, 3)).mean(0))
    torch.testing.assert_close(loss.critic.weight.detach(), expected, rtol=1e-4, atol=1e-6)
    assert set(logged) >= {"loss", "loss_main", "loss_bind_own", "critic_own"}
    terms = [value for name, value in logged.items() if name.startswith("loss_")]
    assert float(logged["loss"]) == pytest.approx(float(torch.stack(terms).sum()), rel=1e-6)  # without the critic's


def test_parameters_are_divided_between_the_optimisers() -> None:
    cfg = duel()
    model = build_model(cfg)
    minimizers = build_minimizers(Config.of(cfg), model)
    held = {
        name: {id(p) for group in own.optimizer.param_groups for p in group["params"]}
        for name, own in minimizers.items()
    }
    critic = {id(p) for p in model.critic_parameters()}
    assert held["critic"] == critic
    assert held["student"] == {id(p) for p in model.parameters()} - critic
    group = minimizers["critic"].optimizer.param_groups[0]
    assert (group["lr"], group["betas"]) == (CRITIC["lr"], CRITIC["betas"])


def test_the_students_step_leaves_no_gradient_in_the_critic() -> None:
    cfg = duel(optim=dict(accumulate=2))
    model = build_model(cfg).train()
    minimizers = build_minimizers(Config.of(cfg), model)
    loss = model.terms()["own"].loss
    start = loss.critic.weight.detach().clone()
    step(model, minimizers)
    assert torch.equal(loss.critic.weight, start)  # accumulating
    teacher = model.teach(batch()["image"])["own"]["classifier"]
    expected = (loss.given.mean((2, 3)).mean(0) - teacher.mean((2, 3)).mean(0)) / 2
    torch.testing.assert_close(loss.critic.weight.grad[0], expected, rtol=1e-4, atol=1e-7)
    step(model, minimizers)
    assert not torch.equal(loss.critic.weight, start)


def test_a_resumed_duel_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    train(duel(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(duel(), tmp_path / "cut", hooks=[Watch(crash_at=3)])
    train(duel(), tmp_path / "cut", resume=True)
    whole, cut = (torch.load(tmp_path / name / STATE, weights_only=True) for name in ("whole", "cut"))
    assert set(whole["optimizers"]) == {"student", "critic"}
    for key, value in whole["model"].items():
        assert torch.equal(value, cut["model"][key]), key
    for name, options in whole["optimizers"].items():
        rates = [[group["lr"] for group in side["param_groups"]] for side in (options, cut["optimizers"][name])]
        assert rates[0] == rates[1]
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert all("critic_own" in line for line in lines if "loss" in line)


def test_a_term_that_is_off_leaves_the_critic_alone(tmp_path: Path) -> None:
    train(duel(schedule=dict(stop=2)), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [("critic_own" in line) for line in lines if "loss" in line] == [True, True, False, False]


def test_a_critic_of_nothing_is_refused() -> None:
    cfg = config("distilled")
    cfg["optim"]["critic"] = SGD
    with pytest.raises(UserError, match="no loss of this config has a critic"):
        build_minimizers(Config.of(cfg), build_model(cfg))


def weights_of(state: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(state, weights_only=True)["model"]
    return weights


def test_a_remainder_of_accumulated_steps_is_used(tmp_path: Path) -> None:
    watch = Watch()
    train(duel(3, optim=dict(accumulate=2, optimizer=SGD, critic=SGD)), tmp_path / "run", hooks=[watch])
    last = weights_of(tmp_path / "run" / STATE)
    names = [name for name, _ in build_model(duel()).student.named_parameters()]
    assert all(torch.equal(watch.weights[0][n], watch.weights[1][n]) for n in names)
    assert any(not torch.equal(watch.weights[1][n], watch.weights[2][n]) for n in names)  # after two steps
    assert any(not torch.equal(watch.weights[2][n], last[f"student.{n}"]) for n in names)  # the third alone


@pytest.mark.parametrize("bind", [{}, dict(loss=dict(type="fitnet"))], ids=["critic", "none"])
def test_a_run_resumed_between_two_updates_equals_an_uninterrupted_one(tmp_path: Path, bind: dict[str, Any]) -> None:
    cfg = duel(5, optim=dict(accumulate=2))
    cfg["model"]["binds"]["own"] |= bind
    cfg["schedule"] |= dict(val_interval=1)
    train(cfg, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(cfg, tmp_path / "cut", hooks=[Watch(crash_at=3)])
    train(cfg, tmp_path / "cut", resume=True)
    whole, cut = (weights_of(tmp_path / name / STATE) for name in ("whole", "cut"))
    for key, value in whole.items():
        assert torch.equal(value, cut[key]), key
