"""Every recipe trains from its config file, on a small tree in its data set's layout."""

from __future__ import annotations

import datetime
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from segkd.cli.main import main
from segkd.engine.config import load_config, shipped
from segkd.losses import names

RESULTS = Path(__file__).parent / "full" / "recipes.json"
DATA = ("camvid", "cityscapes")
FOLDERS = tuple(f"distill/{data}/fast_scnn_" for data in DATA)
RECIPES = [n for n in shipped() if n.startswith(FOLDERS) and not n.endswith("_gpu")]
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
        f"schedule.val_interval={steps}", "engine.log_interval=1", "model.untrained_teacher=True",
        "model.teacher.weights=None",
    ]  # fmt: skip
    changes.append("model.teacher.published=None" if "camvid" in name else "model.teacher.encoder=resnet18")
    for bind, cfg in load_config(name)["model"]["binds"].items():
        if cfg.get("first_stage"):
            changes.append(f"model.binds.{bind}.first_stage.steps=2")
    sets = [part for change in changes for part in ("--set", change)]
    assert main(["train", name, "--data", str(root), "--out", str(out), *sets]) == 0
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


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
            silent_at_first = "dkd" in name or "crd" in name  # a warm-up from 0
            assert gradient > 0 or silent_at_first, f"{bind} teaches nothing"
    return {"loss": [round(logged[0]["loss"], 4), round(logged[-1]["loss"], 4)], "steps": steps}


def test_every_loss_has_a_recipe() -> None:
    for data in DATA:
        there = {n.split("/fast_scnn_")[1] for n in RECIPES if f"/{data}/" in n}
        assert set(names()) <= there
        assert {"skd", "ifvd_full", "cirkd_full", "mgd_cwd", "af_dcd_full"} <= there


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


def test_the_last_full_run_had_every_recipe() -> None:
    rows = json.loads(RESULTS.read_text())
    assert sorted(rows) == sorted(RECIPES)  # a row missing: run make test-full
    assert all(row["steps"] >= 20 for row in rows.values())
