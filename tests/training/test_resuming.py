"""What a resumed run may change and what not, and that mistakes are found before a file is written or changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_first_stage import SGD, Learning, learning
from test_training import Watch, config

from segkd.errors import UserError
from segkd.training.configfile import dump_config
from segkd.training.loop import train
from segkd.training.state import STATE

Config = dict[str, Any]


def rates(run: Path) -> dict[int, float]:
    """Learning rates by step."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["lr"] for line in lines if "lr" in line}


def changed(cfg: Config, key: str, value: Any) -> Config:
    """The same config with another value at ``a.b.c``."""
    first, _, rest = key.partition(".")
    return {**cfg, first: changed(cfg.get(first, {}), rest, value) if rest else value}


def steps(count: int, **schedule: Any) -> Config:
    return config(schedule=dict(steps=count, val_interval=count, warmup=1) | schedule)


def test_a_run_that_is_made_longer_follows_the_new_schedule(tmp_path: Path) -> None:
    train(steps(4), tmp_path / "run")
    before = torch.load(tmp_path / "run" / STATE, weights_only=True)["model"]
    train(steps(8), tmp_path / "run", resume=True)
    after = torch.load(tmp_path / "run" / STATE, weights_only=True)["model"]
    train(steps(8), tmp_path / "whole")
    expected = rates(tmp_path / "whole")
    assert {k: v for k, v in rates(tmp_path / "run").items() if k > 4} == {k: expected[k] for k in (5, 6, 7, 8)}
    name = next(key for key in before if key.endswith("weight"))
    assert not torch.equal(before[name], after[name])


@pytest.mark.parametrize(("key", "value"), [("optim.optimizer.lr", 1e-5), ("schedule.policy", "constant")])
def test_another_rate_holds_from_there(tmp_path: Path, key: str, value: Any) -> None:
    other = changed(steps(4), key, value)
    with pytest.raises(KeyboardInterrupt):
        train(steps(4, val_interval=2), tmp_path / "run", hooks=[Watch(crash_at=3)])
    train(other, tmp_path / "run", resume=True)
    train(other, tmp_path / "whole")
    train(steps(4), tmp_path / "before")
    found, expected, before = (rates(tmp_path / name) for name in ("run", "whole", "before"))
    assert [found[k] for k in (3, 4)] == [expected[k] for k in (3, 4)]
    assert found[4] != before[4]


def test_the_log_of_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(steps(5, val_interval=2), run, hooks=[Watch(crash_at=4)])
    with open(run / "log.jsonl", "a") as file:
        file.write('{"step": 5, "lo')  # killed while it wrote
    train(steps(5, val_interval=2), run, resume=True)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim.optimizer", dict(type=torch.optim.SGD, lr=0.1), "another optimiser: set optim.optimizer"),
        ("optim.optimizer.type", "Adm", "unknown optimiser 'Adm'"),
        ("optim.paramwise", dict(norm_decay_mult=0.0), "other groups of parameters: set optim.paramwise"),
        ("optim.optimizer.lr", 1e30, "not finite"),
    ],
)
def test_a_resumed_run_that_fails_keeps_the_config_that_it_had(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    run = tmp_path / "run"
    train(steps(2), run)
    before = {name: (run / name).read_bytes() for name in ("config.py", STATE)}
    with pytest.raises(UserError, match=message):
        train(changed(steps(6), key, value), run, resume=True)
    assert {name: (run / name).read_bytes() for name in before} == before
    train(steps(3), run, resume=True)


def test_another_rate_of_a_bind_alone_needs_a_new_run(tmp_path: Path) -> None:
    cfg = config("distilled", schedule=dict(steps=2))
    train(cfg, tmp_path / "run")
    other = changed(changed(cfg, "model.binds.deep.lr_factor", 0.1), "schedule.steps", 4)
    with pytest.raises(UserError, match=r"other groups of parameters: .* the binds' lr_factor"):
        train(other, tmp_path / "run", resume=True)


BAD: list[tuple[str, Any, str]] = [
    ("optim.optimizer.type", "Adamw", "optim.optimizer: unknown optimiser 'Adamw'"),
    ("optim.optimizer.type", "LBFGS", "LBFGS computes the loss several times a step"),
    ("optim.optimizer.type", torch.nn.Linear, "Linear is no optimiser"),
    ("optim.optimizer.lr", -1.0, "Invalid learning rate"),
    ("optim.critic", dict(type="Adam"), "no loss of this config has a critic"),
    ("optim.clip_grad", dict(max_norm=-1.0), "clip_grad.max_norm must be a number above 0, got -1.0"),
    ("optim.clip_grad", dict(max=1.0), r"optim.clip_grad must be dict\(max_norm=...\)"),
    ("optim.clip_grad", dict(max_norm="a"), "clip_grad.max_norm must be a number above 0, got 'a'"),
    ("optim.paramwise", 5, r"optim.paramwise must be dict\(custom_keys="),
    ("optim.paramwise", dict(custom_keys=3), r"optim.paramwise must be dict\(custom_keys="),
    ("optim.paramwise", dict(custom_keys={"head": 3}), "custom_keys 'head' must be dict"),
    ("optim.paramwise", dict(nonsense=1), "optim.paramwise.nonsense means nothing"),
    ("schedule.policy", "polly", "unknown schedule.policy 'polly'"),
    ("schedule.power", "x", "schedule: power must be a number above 0, got 'x'"),
    ("schedule.min_lr", float("nan"), "schedule: min_lr must be a number from 0, got nan"),
    ("hooks", 5, "hooks must be a list"),
    ("hooks", [5], "5 is no hook"),
    ("hooks", [dict(type="nothing.x")], "cannot import 'nothing'"),
    ("model.binds.own.first_stage.optimizer", dict(type="LBFGS"), r"binds.own.first_stage.optimizer: LBFGS"),
    ("model.binds.own.first_stage.optimizer", dict(type="Adam", lr="x"), r"binds.own.first_stage.optimizer: Adam"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD)
def test_mistakes_are_found_before_the_first_stage(tmp_path: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        train(changed(learning(5), key, value), tmp_path / "a" / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_a_memory_needs_a_place_for_each_image(tmp_path: Path) -> None:
    cfg = config("distilled")
    cfg["model"]["binds"] = {"own": dict(student="fusion", teacher="fusion", loss=dict(type="crd", n_data=11))}
    with pytest.raises(UserError, match=r"bind 'own'.* n_data=11, but the training split holds 12 images; set n_data"):
        train(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Interrupted(Learning):
    """Ctrl-C in the fourth step of the first stage."""

    calls = 0

    def first_stage_loss(self, teacher: Any) -> torch.Tensor:
        type(self).calls += 1
        if type(self).calls == 4:
            raise KeyboardInterrupt
        return super().first_stage_loss(teacher)


def test_a_run_that_was_stopped_in_its_first_stage_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    Interrupted.calls = 0
    with pytest.raises(KeyboardInterrupt):
        train(learning(6, loss=Interrupted), run)
    train(learning(6), run, resume=True)
    train(learning(6), tmp_path / "whole")
    states = [torch.load(tmp_path / name / STATE, weights_only=True)["model"] for name in ("run", "whole")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "first_stage" in line] == [1, 2, 3, 4, 5, 6]


def test_a_first_stage_outlives_a_main_training_that_is_not_finite(tmp_path: Path) -> None:
    run, cfg = tmp_path / "run", learning(5)
    with pytest.raises(UserError, match="not finite"):
        train(changed(cfg, "optim.optimizer", SGD | dict(lr=1e30)), run)
    kept = (run / "first_stage_own.pth").read_bytes()
    seen: list[Any] = []
    dump_config(cfg, run / "config.py")
    train(cfg, run, resume=True, on_first_stage=seen.append)
    assert seen == []
    assert (run / "first_stage_own.pth").read_bytes() == kept


@pytest.mark.parametrize("warns", [True, False])
def test_accumulating_is_silent(tmp_path: Path, recwarn: pytest.WarningsRecorder, warns: bool) -> None:
    train(changed(steps(4), "optim.accumulate", 2 if warns else 1), tmp_path / "run")
    assert [str(w.message) for w in recwarn if "scheduler" in str(w.message)] == []
