"""First stages: they run before the main training, freeze what has learnt, are kept, and are not run again."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sampling import sampled
from test_training import Watch, config
from torch import nn

from segkd.errors import UserError
from segkd.losses import DistillationLoss
from segkd.losses.kd import PixelwiseKD
from segkd.training.build import build_model
from segkd.training.loop import train
from segkd.training.state import STATE
from segkd.training.watch import TermWarning

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
    kept = torch.load(run / "first_stage_own.pth", weights_only=True)["state"]["bind.loss.level"]
    assert float(kept) == pytest.approx(float(torch.stack(means).mean()), abs=0.5)  # it began at 5
    assert torch.equal(kept, torch.load(run / STATE, weights_only=True)["model"][KEY])
    losses = [record["loss"] for record in log(run) if "first_stage" in record]
    assert len(losses) == 60
    assert losses[-1] < 0.1 * losses[0]


def test_student_and_batches_of_the_main_training_are_untouched_by_it(tmp_path: Path) -> None:
    watches = []
    for steps in (1, 3):
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
    for steps in (1.5, 0):  # without a step its level would stay at 5 for good
        with pytest.raises(UserError, match=rf"'own'.*first_stage.steps must be an integer from 1, got {steps}"):
            train(learning(first_stage=dict(steps=steps, optimizer=SGD)), tmp_path / "run")
    with pytest.raises(UserError, match=r"'own'.*first_stage.steps must be an integer from 0, got -1"):
        train(learning(-1, loss=PixelwiseKD), tmp_path / "run")
    with pytest.raises(UserError, match=r"'own'.*first_stage.step means nothing; did you mean 'steps'"):
        train(learning(first_stage=dict(step=3, optimizer=SGD)), tmp_path / "run")
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


class Decayed(Learning):
    """Two parameters that stay unless they decay: only one may."""

    no_weight_decay = ("level",)

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Parameter(torch.tensor(5.0))

    def first_stage_parameters(self) -> list[nn.Parameter]:
        return [self.level, self.other]

    def first_stage_loss(self, teacher: Any) -> torch.Tensor:
        return 0 * (self.level + self.other)


def first_stage_of(run: Path, cfg: dict[str, Any]) -> dict[str, float]:
    train(cfg, run)
    state = torch.load(run / "first_stage_own.pth", weights_only=True)["state"]
    return {key.removeprefix("bind.loss."): float(value) for key, value in state.items() if value.numel() == 1}


def test_the_binds_factors_and_the_runs_clipping_hold_in_it(tmp_path: Path) -> None:
    decaying = dict(steps=1, optimizer=SGD | dict(weight_decay=0.1))
    found = first_stage_of(tmp_path / "decay", learning(loss=Decayed, first_stage=decaying, lr_factor=3.0))
    assert found["level"] == 5
    assert found["other"] == pytest.approx(5 - 3 * 0.05 * 0.1 * 5, abs=1e-5)
    once = first_stage_of(tmp_path / "once", learning(1))["level"]
    thrice = first_stage_of(tmp_path / "thrice", learning(1, lr_factor=3.0))["level"]
    assert thrice - 5 == pytest.approx(3 * (once - 5), rel=1e-4)
    cfg = learning(1)
    cfg["optim"]["clip_grad"] = dict(max_norm=0.1)
    assert abs(first_stage_of(tmp_path / "clipped", cfg)["level"] - 5) == pytest.approx(0.05 * 0.1, rel=1e-3)
    assert abs(once - 5) > 0.05


class Wider(Learning):
    """The same with a level for each of two halves."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.full((2,), 5.0))

    def first_stage_loss(self, teacher: Any) -> torch.Tensor:
        return super().first_stage_loss(teacher).mean()

    def forward(self, student: Any, teacher: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return super().forward(student, teacher).mean()


def stopped(run: Path) -> None:
    """A run that ended after its first stage of 5 steps and before its first state."""
    with pytest.raises(KeyboardInterrupt):
        train(learning(5), run, hooks=[Watch(crash_at=1)])


@pytest.mark.parametrize("loss", sampled([Learning, Wider], 2))
def test_a_new_run_does_not_use_what_an_earlier_one_left(tmp_path: Path, loss: Any) -> None:
    stopped(tmp_path / "run")
    for run in (tmp_path / "run", tmp_path / "fresh"):
        train(learning(20, loss=loss) | dict(seed=4), run)
    states = [torch.load(tmp_path / name / STATE, weights_only=True)["model"] for name in ("run", "fresh")]
    assert torch.equal(states[0][KEY], states[1][KEY])
    assert sum("first_stage" in record for record in log(tmp_path / "run")) == 20


def test_a_new_run_without_a_first_stage_leaves_no_earlier_one(tmp_path: Path) -> None:
    stopped(tmp_path / "run")
    train(config("distilled"), tmp_path / "run")
    assert not list((tmp_path / "run").glob("first_stage_*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(cfg=dict(seed=4)), r"first_stage_own.pth was trained with seed 3, not 4; .* without --resume"),
        (dict(steps=50), r"first_stage_own.pth was trained with steps 5, not 50; .* without --resume"),
        (
            dict(first_stage=dict(steps=5, optimizer=SGD | dict(lr=0.5))),
            r"first_stage_own.pth was trained with optimizer .*'lr': 0.05.*, not .*'lr': 0.5.* without --resume",
        ),
        (dict(teacher_scale=2.0), r"first_stage_own.pth was trained with teacher_scale 1.0, not 2.0; .* --resume"),
        (dict(loss=Wider), r"first_stage_own.pth was trained with loss Learning {}, not Wider {}; .* --resume"),
        (dict(loss=PixelwiseKD), r"first_stage_own.pth was trained with loss Learning {}, not PixelwiseKD {}; .*"),
        (
            dict(student="fusion", teacher="fusion"),
            r"first_stage_own.pth was trained with student .'classifier'., not .'f",
        ),
        (dict(teacher=""), r"first_stage_own.pth was trained with teacher .'classifier'., not .''.; .*"),
        (dict(connector=dict(type="conv1x1")), r"first_stage_own.pth was trained with connector None, not {'type.*"),
        (dict(size="teacher"), r"first_stage_own.pth was trained with size smaller, not teacher"),
        (dict(masked=True), r"first_stage_own.pth was trained with masked False, not True"),
        (dict(cfg=dict(data=dict(config()["data"], batch_size=2))), r"trained with data .*'batch_size': \d+}?.*, not"),
    ],
    ids=["seed", "steps", "optimizer", "scale", "shape", "loss", "taps", "tap", "connector", "size", "masked", "data"],
)
def test_a_resumed_run_refuses_a_first_stage_of_another_config(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    stopped(tmp_path / "run")
    before = {file: file.read_bytes() for file in (tmp_path / "run").glob("*.p*")}
    cfg = learning(**({"steps": 5} | {k: v for k, v in change.items() if k != "cfg"})) | change.get("cfg", {})
    with pytest.raises(UserError, match=message):
        train(cfg, tmp_path / "run", resume=True)
    assert {file: file.read_bytes() for file in (tmp_path / "run").glob("*.p*")} == before


def test_a_resumed_run_refuses_a_first_stage_of_another_loss_argument(tmp_path: Path) -> None:
    stage, margins = (
        dict(first_stage=dict(steps=2, optimizer=SGD), weight=0.0),
        [dict(type="ab", margin=m) for m in (1, 5)],
    )
    binds = [dict(own=dict(student="fusion", teacher="fusion", loss=loss) | stage) for loss in margins]
    run, (first, second) = tmp_path / "run", (config("distilled") for _ in margins)
    first["model"]["binds"], second["model"]["binds"] = binds
    with pytest.raises(KeyboardInterrupt):
        train(first, run, hooks=[Watch(crash_at=1)])
    with pytest.raises(UserError, match=r"was trained with loss .*'margin': 1}, not .*'margin': 5}; set it back"):
        train(second, run, resume=True)


def test_a_warning_of_the_teachers_scale_is_in_the_log(tmp_path: Path) -> None:
    with pytest.warns(TermWarning, match="first stage of own: the teacher's features have an rms of"):
        train(learning(2, loss="fitnet", weight=0.0, teacher_scale=1e-4), tmp_path / "run")
    stage = [record for record in log(tmp_path / "run") if "first_stage" in record]
    assert [(record["step"], "loss" in record, "warning" in record) for record in stage[:2]] == [
        (1, False, True),
        (1, True, False),
    ]
    assert "makes FitNet faint: set teacher_scale=" in stage[0]["warning"]


def test_a_resumed_run_refuses_a_first_stage_of_another_teacher(tmp_path: Path) -> None:
    """Whatever file the weights are in: one of them has changed."""
    run = tmp_path / "run"
    teacher = build_model(learning(5)).teacher
    with pytest.raises(KeyboardInterrupt):
        train(taught_by(teacher), run, hooks=[Watch(crash_at=1)])
    with torch.no_grad():
        next(teacher.parameters()).flatten()[0] += 1e-3
    with pytest.raises(UserError, match=r"was trained with teacher weights of checksum \w{8}, not \w{8}; set it back"):
        train(taught_by(teacher), run, resume=True)


def taught_by(teacher: nn.Module, **bind: Any) -> dict[str, Any]:
    cfg = learning(5, **bind)
    cfg["model"] |= dict(teacher=teacher)
    return cfg


def test_a_resumed_run_refuses_a_first_stage_of_the_student_from_another_start(tmp_path: Path) -> None:
    run = tmp_path / "run"
    student, teacher = (getattr(build_model(learning(5)), name) for name in ("student", "teacher"))
    cfg, bind = taught_by(teacher, loss=PixelwiseKD, weight=0.0), run / "first_stage_own.pth"
    cfg["model"] |= dict(student=copy.deepcopy(student))
    with pytest.raises(KeyboardInterrupt):
        train(cfg, run, hooks=[Watch(crash_at=1)])
    cfg["model"] |= dict(student=copy.deepcopy(student))  # the same start: its result is used
    before, seen = bind.read_bytes(), []
    with pytest.raises(KeyboardInterrupt):
        train(cfg, run, resume=True, on_first_stage=seen.append, hooks=[Watch(crash_at=1)])
    assert (bind.read_bytes(), seen) == (before, [])
    with torch.no_grad():
        next(student.parameters()).flatten()[0] += 1e-3
    cfg["model"] |= dict(student=student)
    with pytest.raises(UserError, match=r"was trained with student weights of checksum \w{8}, not \w{8}; set it back"):
        train(cfg, run, resume=True)


def test_a_resumed_run_uses_what_several_first_stages_left(tmp_path: Path) -> None:
    """The second began with the student that the first had trained."""
    run, cfg = tmp_path / "run", learning(3, loss=PixelwiseKD, weight=0.0)
    cfg["model"]["binds"]["other"] = cfg["model"]["binds"]["own"]
    with pytest.raises(KeyboardInterrupt):
        train(cfg, run, hooks=[Watch(crash_at=1)])
    watch, fresh, seen = Watch(), Watch(), []
    train(cfg, run, resume=True, on_first_stage=seen.append, hooks=[watch])
    assert seen == []
    train(cfg, tmp_path / "fresh", hooks=[fresh])
    for key, value in fresh.weights[0].items():
        assert torch.equal(value, watch.weights[0][key]), key


def test_a_resumed_run_refuses_a_first_stage_of_a_loss_whose_code_has_changed(tmp_path: Path) -> None:
    """Same name and arguments, but its level has another shape now."""
    stopped(tmp_path / "run")
    edited = type("Learning", (Wider,), {})
    with pytest.raises(UserError, match=r"holds another loss or student .*'bind.loss.level' differ"):
        train(learning(5, loss=edited), tmp_path / "run", resume=True)


def test_a_damaged_first_stage_is_named(tmp_path: Path) -> None:
    stopped(tmp_path / "run")
    (tmp_path / "run" / "first_stage_own.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"cannot read .*first_stage_own.pth: it is damaged"):
        train(learning(5), tmp_path / "run", resume=True)


class Remembering(DistillationLoss):
    """The student against the mean of what it was given up to the last update; no batch may wait for long."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.pending: list[torch.Tensor] = []

    def after_step(self) -> None:
        assert len(self.pending) == 2
        self.pending.clear()
        self.updates += 1

    def forward(self, student: Any, teacher: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.pending.append(teacher)
        return (student - teacher).square().mean()


def test_a_memory_is_told_of_every_update(tmp_path: Path) -> None:
    cfg = learning(6, loss=Remembering, weight=0.0)
    cfg["optim"]["accumulate"] = 2
    with pytest.raises(KeyboardInterrupt):  # before the main training
        train(cfg, tmp_path / "run", hooks=[Watch(crash_at=0)])
    kept = torch.load(tmp_path / "run" / "first_stage_own.pth", weights_only=True)["state"]
    assert int(kept["bind.loss.updates"]) == 3


def test_the_banks_of_crd_move_in_a_first_stage(tmp_path: Path) -> None:
    cfg = learning(3, weight=0.0)
    cfg["model"]["binds"]["own"]["loss"] = dict(type="crd", n_data=12, num_classes=11, feat_dim=8, nce_k=16)
    with pytest.raises(KeyboardInterrupt):
        train(cfg, tmp_path / "run", hooks=[Watch(crash_at=0)])
    kept = torch.load(tmp_path / "run" / "first_stage_own.pth", weights_only=True)["state"]
    start = build_model(cfg).terms()["own"].loss
    assert kept["bind.loss.written"].any()
    moved = (kept["bind.loss.student_bank"] != start.student_bank).any(1)
    assert torch.equal(moved, kept["bind.loss.written"])


def test_a_critic_has_no_first_stage(tmp_path: Path) -> None:
    cfg = learning(3)
    cfg["model"]["binds"]["own"]["loss"] = dict(type="skd_holistic")
    with pytest.raises(UserError, match=r"'own': Holistic has a critic, which a first stage does not train"):
        train(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()
