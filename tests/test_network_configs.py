"""Every network trains from its shipped config, with its published losses, on a small tree in its data set's layout."""

from __future__ import annotations

import datetime
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from segkd.cli.main import main
from segkd.models import NETWORKS, names
from segkd.models.catalogue import BACKBONES, WRAPPERS
from segkd.training.configfile import load_config, shipped

RESULTS = Path(__file__).parent / "full" / "configs.json"
DATA = ("camvid", "cityscapes")
CONFIGS = [n for n in shipped() if n.split("/")[0] in ("students", "teachers") and n.split("/")[1] in DATA]
#: one each: class weights, boundary and selected pixels, detail, many heads, pre-activation heads, plain
QUICK = (
    "students/camvid/espnet",
    "students/camvid/pidnet_s",
    "students/camvid/stdc1",
    "students/cityscapes/bisenetv2",
    "students/cityscapes/ddrnet23_slim",
    "students/cityscapes/contextnet",
)


def train(name: str, root: Path, out: Path, steps: int) -> dict[str, Any]:
    """A row: the first and the last loss of a short training in which every term stayed finite."""
    changes = [
        "data.augment.crop_size=64,128", "data.batch_size=2", "data.workers=0", f"schedule.steps={steps}",
        "schedule.warmup=0",
        f"schedule.val_interval={steps}", "engine.log_interval=1", *short_policy(name),
    ]  # fmt: skip
    sets = [part for change in changes for part in ("--set", change)]
    assert main(["train", name, "--data", str(root), "--out", str(out), *sets]) == 0
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    logged = [record for record in records if "loss_main" in record]
    terms = load_config(name)["model"].get("supervision") or {"main": {}}
    assert [record["step"] for record in logged] == list(range(1, steps + 1))
    for record in logged:
        assert {f"loss_{term}" for term in terms} <= set(record)
        assert all(math.isfinite(v) for v in record.values()), record
    return {"loss": [round(logged[0]["loss"], 4), round(logged[-1]["loss"], 4)], "steps": steps}


def short_policy(name: str) -> list[str]:
    """A warm-up, and milestones beyond a short training, mean nothing to it."""
    schedule = load_config(name)["schedule"]
    return ["schedule.warmup=0"] if schedule.get("warmup") else []


@pytest.mark.slow  # a network is one file and one test before it has configs
def test_every_network_has_configs() -> None:
    for data in DATA:
        there = {kind(load_config(n)) for n in CONFIGS if n.split("/")[1] == data}
        missing = {n for n in names() if n not in WRAPPERS and NETWORKS.get(n) not in there}
        assert not missing


@pytest.mark.parametrize("data", DATA)
def test_every_family_of_light_backbones_has_a_config(data: str) -> None:
    networks = [load_config(n)["model"]["network"] for n in CONFIGS if n.startswith(f"students/{data}/")]
    there = {network["backbone"] for network in networks if "backbone" in network}
    assert not [paper for paper, backbones in BACKBONES.items() if not there & set(backbones)]


def kind(cfg: dict[str, Any]) -> Any:
    """The class of the network that a config trains."""
    return NETWORKS.resolve(cfg["model"]["network"]["type"])


@pytest.mark.parametrize("name", QUICK)
def test_a_config_trains(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue("camvid_tree" if "camvid" in name else "cityscapes")
    train(name, root, tmp_path / "run", 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CONFIGS)
def test_all_configs_train(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue("camvid_tree" if "camvid" in name else "cityscapes")
    row = train(name, root, tmp_path / "run", 20)
    if os.environ.get("SEGKD_RECORD"):  # make test-full writes what it found
        content = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        content = {k: v for k, v in content.items() if k in CONFIGS}
        content[name] = row | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
        lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(content[k])}" for k in sorted(content))
        RESULTS.write_text("{\n" + lines + "\n}\n")


@pytest.mark.slow
def test_the_last_full_run_had_every_config() -> None:
    rows = json.loads(RESULTS.read_text())
    assert sorted(rows) == sorted(CONFIGS)  # a row missing: run make test-full
    assert all(row["steps"] >= 20 for row in rows.values())
