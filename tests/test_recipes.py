"""Every recipe trains from its config file, on a small tree in its data set's layout."""

from __future__ import annotations

import datetime
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from scales import scale_of

from segkd.cli.main import main
from segkd.losses import names
from segkd.training.configfile import load_config, shipped

RESULTS = Path(__file__).parent / "full" / "recipes.json"
DATA = ("camvid", "cityscapes")
RECIPES = [n for n in shipped() if n.split("/")[0] == "distill" and n.split("/")[1] in DATA]
#: loss -> publication, its weight, and the sizes there
PUBLISHED: dict[str, tuple[str, float, dict[str, float]]] = {
    "at": ("cirkd", 10000, {"H": 64, "W": 128}),
    "ft": ("authors", 500, {"C": 32, "H": 8, "W": 8, "p": 1}),
    "ifvd": ("cirkd", 20, {"labelled": 0.9}),
    "mgd": ("mgd", 2e-5, {"C": 2048, "H": 64, "W": 128}),
    "ofd": ("segmentation", 1 / 16, {"C": 256, "H": 129, "W": 129}),
    "pkt": ("repdistiller", 30000, {"N": 64}),
    "skd_pixel": ("skd", 10, {"N": 8}),
    "sp": ("repdistiller", 3000, {"N": 64}),
}
#: one of each kind: a memory, a first stage for the loss, one for the student, a critic, a draw, labels
QUICK = (
    "distill/camvid/fast_scnn_crd",
    "distill/camvid/fast_scnn_ft",
    "distill/camvid/fast_scnn_fsp",
    "distill/cityscapes/fast_scnn_skd",
    "distill/cityscapes/fast_scnn_mgd_cwd",
    "distill/cityscapes/fast_scnn_cirkd_full",
)


def run_recipe(name: str, root: Path, out: Path, steps: int) -> list[dict[str, Any]]:
    """Train ``steps`` steps with an untrained teacher; the log's records of losses."""
    changes = [
        "data.augment.crop_size=64,128", "data.batch_size=2", "data.workers=0", f"schedule.steps={steps}",
        "schedule.warmup=0",
        f"schedule.val_interval={steps}", "engine.log_interval=1", "model.untrained_teacher=True",
        "model.teacher.weights=None",
    ]  # fmt: skip
    changes += smaller_teacher(name)
    for bind, cfg in load_config(name)["model"]["binds"].items():
        if cfg.get("first_stage"):
            changes.append(f"model.binds.{bind}.first_stage.steps=2")
    sets = [part for change in changes for part in ("--set", change)]
    assert main(["train", name, "--data", str(root), "--out", str(out), *sets]) == 0
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def smaller_teacher(name: str) -> list[str]:
    """The smallest encoder of the same architecture; no published preprocessing without its weights."""
    teacher = load_config(name)["model"]["teacher"]
    smaller = {"published": "model.teacher.published=None", "encoder": "model.teacher.encoder=resnet18"}
    return [change for key, change in smaller.items() if key in teacher]


def check(name: str, records: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """All terms are there and finite at every step; a row of the results."""
    logged = [r for r in records if "loss_main" in r]
    assert [r["step"] for r in logged] == list(range(1, steps + 1))
    binds = load_config(name)["model"]["binds"]
    for record in logged:
        assert {f"loss_bind_{bind}" for bind in binds} <= set(record)
        assert all(math.isfinite(v) for v in record.values()), record
    for bind, cfg in binds.items():
        if cfg.get("first_stage"):
            assert any(r.get("first_stage") == bind for r in records)
        if cfg["weight"]:
            gradient = next(r["gradients"] for r in records if "gradients" in r)[f"loss_bind_{bind}"]
            assert gradient > 0, f"{bind} teaches nothing"
    return {"loss": [round(logged[0]["loss"], 4), round(logged[-1]["loss"], 4)], "steps": steps}


@pytest.mark.slow
def test_every_loss_has_a_recipe() -> None:
    for data in DATA:
        there = {n.split("/fast_scnn_")[1] for n in RECIPES if f"/{data}/fast_scnn_" in n}
        assert set(names()) <= there
        assert {"skd", "ifvd_full", "cirkd_full", "mgd_cwd", "af_dcd_full"} <= there


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_are_the_published_ones_converted(name: str, data: str) -> None:
    publication, weight, sizes = PUBLISHED[name]
    (bind,) = load_config(f"distill/{data}/fast_scnn_{name}")["model"]["binds"].values()
    # MGD's is kept on the features as they are: at an rms of 1 its value would be hundreds of times the labels'
    own = bind["weight"] * (bind.get("teacher_scale", 1) ** 2 if name == "mgd" else 1)
    assert own == pytest.approx(weight * scale_of(name, publication, **sizes), rel=0.005)


@pytest.mark.parametrize("name", QUICK)
def test_a_recipe_trains(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue("camvid_tree" if "camvid" in name else "cityscapes")
    check(name, run_recipe(name, root, tmp_path / "run", 5), 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_all_recipes_train(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue("camvid_tree" if "camvid" in name else "cityscapes")
    row = check(name, run_recipe(name, root, tmp_path / "run", 20), 20)
    if os.environ.get("SEGKD_RECORD"):  # make test-full writes what it found
        content = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        content[name] = row | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(dict(sorted(content.items())), indent=1) + "\n")


@pytest.mark.slow
def test_the_last_full_run_had_every_recipe() -> None:
    rows = json.loads(RESULTS.read_text())
    assert sorted(rows) == sorted(RECIPES)  # a row missing: run make test-full
    assert all(row["steps"] >= 20 for row in rows.values())
