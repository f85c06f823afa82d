"""Arms beside each other: scored as ``segkd eval`` scores, trained once, held to one config, dropped as announced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segkd.errors import UserError
from segkd.models import create
from segkd.report.arms import comparison_lines, draw_comparison, gains_table
from segkd.report.tables import as_text
from segkd.training.build import build_dataset
from segkd.training.configfile import config_root
from segkd.training.loop import train as run_training
from segkd.workbench import arms
from segkd.workbench.arms import Budget, Comparison, compose_arms, compose_for_equal_time, run_arms
from segkd.workbench.comparison import score_model
from segkd.workbench.runs import open_model

SCENES = dict(type="synthetic", size=(32, 64), length=4)
RECIPES = ("alone", "kd", "cwd")


GIVEN: dict[str, Any] = dict(data=SCENES, overrides=["engine.precision=fp32"])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    weights = tmp_path_factory.mktemp("teacher") / "w.pth"
    torch.save(create("contextnet", num_classes=11).state_dict(), weights)
    return f"contextnet@{weights}"


@pytest.fixture(scope="module")
def cfgs(teacher: str) -> dict[str, Any]:
    return compose_arms("fast_scnn", RECIPES, teacher, words=dict(steps=2, batch=2), **GIVEN)


@pytest.fixture(scope="module")
def done(cfgs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    out = tmp_path_factory.mktemp("arms")
    return run_arms(cfgs, out, (0, 1)), out


def must_not(*_: Any) -> None:
    raise AssertionError("this was done already")


def test_scores_are_those_of_an_evaluation(done: tuple[Comparison, Path], cfgs: dict[str, Any]) -> None:
    found, out = done
    assert {row["name"] for row in found.rows} == set(RECIPES)
    assert [row["miou"] for row in found.rows] == sorted((row["miou"] for row in found.rows), reverse=True)
    rows = {row["name"]: row for row in found.rows}
    dataset = build_dataset(cfgs["kd"], "val")
    for seed in (0, 1):
        model = open_model(cfgs["kd"], out / f"kd/seed{seed}/student_last.pth")
        assert rows["kd"]["scores"][seed] == pytest.approx(score_model(model, dataset).miou, abs=1e-9)
    assert rows["kd"]["gain"] == pytest.approx(rows["kd"]["miou"] - rows["alone"]["miou"])
    assert rows["kd"]["gain_low"] <= rows["kd"]["gain"] <= rows["kd"]["gain_high"]
    assert rows["alone"]["gain"] is None
    assert rows["kd"]["deviation"] == pytest.approx(np.std(list(rows["kd"]["scores"].values()), ddof=1))
    assert found.curves["kd"] == {2: pytest.approx(rows["kd"]["miou"], abs=1e-6)}
    assert found.unfinished == []
    assert found.teacher is not None


def test_the_arms_of_a_seed_begin_alike_and_see_the_same_batches(cfgs: dict[str, Any], tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Watch:
        def before_train_iter(self, training: Any, batch_idx: int, data_batch: Mapping[str, Any]) -> None:
            kept = [data_batch["image"], *(p.detach() for p in training.model.student.parameters())]
            seen.setdefault(name, kept[:1] if batch_idx else [x.clone() for x in kept])

    def watched(cfg: Mapping[str, Any], run: Path, resume: bool, title: str) -> None:
        nonlocal name
        name = title
        run_training(cfg, run, resume=resume, hooks=[Watch()])

    name = ""
    run_arms(cfgs, tmp_path, (3,), train=watched)
    assert set(seen) == {f"{arm}, seed 3" for arm in RECIPES}
    first, *others = seen.values()
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_student_alone_sees_no_images_without_labels(teacher: str, tmp_path: Path) -> None:
    given = {**GIVEN, "overrides": [*GIVEN["overrides"], "data.unlabelled_ratio=2"]}
    found = compose_arms("fast_scnn", RECIPES, teacher, words=dict(steps=2, unlabelled=dict(length=9)), **given)
    assert [cfg["data"].get("unlabelled") for cfg in found.values()] == [None, dict(length=9), dict(length=9)]
    assert "unlabelled_ratio" not in found["alone"]["data"]
    assert len(run_arms({name: found[name] for name in ("alone", "kd")}, tmp_path, (0,)).rows) == 2


def test_what_is_done_is_not_done_again(done: tuple[Comparison, Path], cfgs: dict[str, Any], monkeypatch: Any) -> None:
    found, out = done
    monkeypatch.setattr(arms, "score_model", must_not)
    assert run_arms(cfgs, out, (0, 1), train=must_not) == found


def test_an_arm_of_another_config_is_refused(done: tuple[Comparison, Path], cfgs: dict[str, Any]) -> None:
    _, out = done
    longer = {name: {**cfg, "schedule": {**cfg["schedule"], "steps": 3}} for name, cfg in cfgs.items()}
    with pytest.raises(UserError, match=r"alone\.py was trained with another schedule\.steps: 2, now it is 3"):
        run_arms(longer, out, (0, 1), train=must_not)


def test_a_race_drops_the_worse_half_and_keeps_the_baseline(
    done: tuple[Comparison, Path], cfgs: dict[str, Any]
) -> None:
    found, out = done
    first = {row["name"]: row["scores"][0] for row in found.rows}
    raced = run_arms(cfgs, out, (0, 1), budget=Budget(race=True), train=must_not)
    seeds = {row["name"]: row["seeds"] for row in raced.rows}
    winner = max(("kd", "cwd"), key=lambda name: first[name])
    assert seeds == {"alone": 2, winner: 2, ({"kd", "cwd"} - {winner}).pop(): 1}


def test_no_training_begins_after_the_hours(done: tuple[Comparison, Path], cfgs: dict[str, Any]) -> None:
    _, out = done
    found = run_arms(cfgs, out, (0, 1, 2), budget=Budget(hours=1e-9), train=must_not)
    assert found.unfinished == [f"{arm}, seed 2" for arm in RECIPES]
    assert list(comparison_lines(found))[-1] == "left out for time: alone, seed 2; kd, seed 2; cwd, seed 2"


def test_equal_time_gives_a_cheap_arm_more_steps(teacher: str, tmp_path: Path) -> None:
    pace = {"alone": 0.1, "kd": 0.2, "cwd": 0.15, "skd": 0.3}  # the folder knows an arm that does not go on
    (tmp_path / "pace.json").write_text(json.dumps(pace))
    arguments = (tmp_path, "fast_scnn", RECIPES, teacher)
    cfgs = compose_for_equal_time(0.01, *arguments, words=dict(batch=2), **GIVEN)
    assert {name: cfg["schedule"]["steps"] for name, cfg in cfgs.items()} == {"alone": 6, "kd": 3, "cwd": 4}
    with pytest.raises(UserError, match=r"a step of alone takes 0\.1 s: 0\.001 minutes are less than 2 of them"):
        compose_for_equal_time(0.001, *arguments, words={}, **GIVEN)
    with pytest.raises(UserError, match="minutes and steps: give one of them"):
        compose_for_equal_time(1, *arguments, words=dict(steps=3), **GIVEN)
    with pytest.raises(UserError, match="minutes must be above 0, got 0"):
        compose_for_equal_time(0, *arguments, words={}, **GIVEN)


def test_first_stages_are_a_part_of_equal_time(teacher: str, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed.py"
    shipped = (config_root() / "recipes" / "ft.py").read_text()
    fixed.write_text(shipped.replace("steps=0.5,", "steps=40,"))
    (tmp_path / "pace.json").write_text(json.dumps({"alone": 0.1, "ab": 0.1, "fixed": 0.1}))
    arms = (tmp_path, "fast_scnn", ("alone", "ab", fixed), teacher)
    cfgs = compose_for_equal_time(0.25, *arms, words=dict(batch=2), **GIVEN)
    stages = {
        name: [b["first_stage"]["steps"] for b in cfg["model"].get("binds", {}).values()] for name, cfg in cfgs.items()
    }
    assert stages == {"alone": [], "ab": [50], "fixed": [40]}
    assert {name: cfg["schedule"]["steps"] for name, cfg in cfgs.items()} == {"alone": 150, "ab": 100, "fixed": 110}
    with pytest.raises(UserError, match=r"a step of fixed takes 0\.1 s: 0\.06 minutes are less than 2 of them"):
        compose_for_equal_time(0.06, *arms, words=dict(batch=2), **GIVEN)


def test_a_pace_is_measured_once(teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (0.1, tmp_path, "fast_scnn", ("alone", "cwd"), teacher)
    first = compose_for_equal_time(*arguments, words=dict(batch=2), **GIVEN)
    pace = json.loads((tmp_path / "pace.json").read_text())
    assert {name: int(6 / seconds) for name, seconds in pace.items()} == {
        name: cfg["schedule"]["steps"] for name, cfg in first.items()
    }
    monkeypatch.setattr(arms, "time_step", must_not)
    again = compose_for_equal_time(*arguments, words=dict(batch=2), **GIVEN)
    assert [cfg["schedule"] for cfg in again.values()] == [cfg["schedule"] for cfg in first.values()]
    found = run_arms(compose_arms(*arguments[2:], words=dict(steps=1, batch=2), **GIVEN), tmp_path, (0,))
    assert {row["name"]: row["seconds_per_step"] for row in found.rows} == pace


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compose_arms("fast_scnn", ["alone"], data=SCENES), r"at least two arms, got \['alone'\]"),
        (lambda: compose_arms("fast_scnn", ["kd", "kd"], "espnet", data=SCENES), "'kd' is named twice"),
        (lambda: compose_arms("fast_scnn", ["alone", "kd"], data=SCENES), "the recipe 'kd' needs a teacher"),
        (lambda: run_arms({}, Path("x"), ()), r"seeds must be different integers, got \[\]"),
        (lambda: run_arms({}, Path("x"), (1, 1)), "seeds must be different"),
        (lambda: run_arms({}, Path("x"), budget=Budget(hours=0)), "hours must be above 0, got 0"),
    ],
)
def test_mistakes_are_one_line(call: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_it_is_shown_as_table_lines_and_picture(done: tuple[Comparison, Path]) -> None:
    found, _ = done
    table = as_text(gains_table(found.rows))
    assert all(f"{row['miou']:.2f}" in table for row in found.rows)
    assert f"the teacher has {found.teacher:.2f}" in list(comparison_lines(found))
    picture = draw_comparison(found)
    assert picture.shape[1:] == (1060, 3)
    without = found._replace(curves={name: {} for name in found.curves}, teacher=None)
    assert draw_comparison(without).shape[0] < picture.shape[0]


def test_verdicts_follow_the_interval() -> None:
    rows = [dict(name=name, gain=gain, gain_seeds=3, verdict=said) for name, gain, said in (
        ("kd", 1.0, "better"), ("cwd", 0.1, "within noise"), ("at", -2.0, "worse"), ("alone", None, ""))]  # fmt: skip
    found = Comparison(rows, 60.0, "alone", {}, "val", 10, [])
    assert list(comparison_lines(found)) == [
        "the teacher has 60.00",
        "better than alone: kd",
        "worse than alone: at",
        "not told apart from alone: cwd: their intervals hold 0",
        "the best of several arms looks better than it is: confirm it with seeds that are not in this table",
    ]
