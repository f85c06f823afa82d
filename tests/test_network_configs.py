"""Every network trains by its part, with its published losses, on a small tree in its data set's layout."""

from __future__ import annotations

import datetime
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from sampling import sampled

from segkd.cli.main import main
from segkd.models import NETWORKS, names
from segkd.models.catalogue import BACKBONES, WRAPPERS, catalogue
from segkd.segmentor import Segmentor
from segkd.training.configfile import parts
from segkd.workbench.composing import compose, part_of, read_part

RESULTS = Path(__file__).parent / "full" / "configs.json"
DATA = ("camvid", "cityscapes")
#: of a family's part, the networks that are trained here
FAMILIES = {
    "deeplabv3": ("deeplabv3_r101",),
    "deeplabv3plus": ("deeplabv3plus_r18", "deeplabv3plus_r101"),
    "light_fpn": (
        "light_fpn_convnext_atto", "light_fpn_efficientformer_l1", "light_fpn_efficientformerv2_s0",
        "light_fpn_efficientnet_b0", "light_fpn_mobilenetv1_100", "light_fpn_mobilenetv2_100",
        "light_fpn_mobilenetv3_large_100", "light_fpn_mobilenetv3_small_100", "light_fpn_mobilenetv4_conv_small",
        "light_fpn_poolformer_s12", "light_fpn_resnet18", "light_fpn_shufflenet_v2_x1_0",
    ),
    "pspnet": ("pspnet", "pspnet_r18", "pspnet_r50"),
    "segformer": ("segformer_b2",),
}  # fmt: skip
#: (network, data set) for every data set of which the network's part says something
COMPOSED = [
    (network, data)
    for part in parts("networks")
    for network in FAMILIES.get(part, (part,))
    for data in read_part("networks", part).get("on", {})
]
#: with the schedules, too: "stdc1/camvid", "fast_scnn/camvid/gpu"
CONFIGS = [
    *(f"{network}/{data}" for network, data in COMPOSED if data in DATA),
    *(f"{network}/camvid/{name}" for network in ("fast_scnn", "deeplabv3plus_r18") for name in parts("schedules")),
]
#: one each: class weights, boundary and selected pixels, detail, many heads, pre-activation heads, plain
QUICK = (
    "espnet/camvid",
    "pidnet_s/camvid",
    "stdc1/camvid",
    "bisenetv2/cityscapes",
    "ddrnet23_slim/cityscapes",
    "contextnet/cityscapes",
)


def flags(name: str) -> dict[str, str]:
    """The words that compose what a name of ``CONFIGS`` means."""
    return dict(zip(("student", "data", "schedule"), name.split("/"), strict=False))


def train(name: str, root: Path, out: Path, steps: int) -> dict[str, Any]:
    """A row: the first and the last loss of a short training in which every term stayed finite."""
    changes = ["data.augment.crop_size=64,128", "data.batch_size=2", "data.workers=0", "engine.log_interval=1"]
    changes += ["schedule.warmup=0", f"schedule.val_interval={steps}"]
    sets = [part for change in changes for part in ("--set", change)]
    words = [part for flag, value in flags(name).items() for part in (f"--{flag}", value)]
    assert main(["train", *words, "--root", str(root), "--out", str(out), "--steps", str(steps), *sets]) == 0
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    logged = [record for record in records if "loss_main" in record]
    terms = compose(**flags(name), root=root)["model"].get("supervision") or {"main": {}}
    assert [record["step"] for record in logged] == list(range(1, steps + 1))
    for record in logged:
        assert {f"loss_{term}" for term in terms} <= set(record)
        assert all(math.isfinite(v) for v in record.values()), record
    return {"loss": [round(logged[0]["loss"], 4), round(logged[-1]["loss"], 4)], "steps": steps}


@pytest.mark.slow  # a network is one file and one test before it has a part
def test_every_network_has_a_part() -> None:
    missing = {n for n in [*names(), *catalogue()] if n not in WRAPPERS and part_of(n) is None}
    assert not missing


def test_every_part_is_of_a_network() -> None:
    assert set(parts("networks")) == {part_of(name) for name in catalogue()} - {None}
    assert all(part_of(network) == part for part, networks in FAMILIES.items() for network in networks)


def test_every_family_of_light_backbones_is_trained() -> None:
    there = {catalogue()[network].options["backbone"] for network in FAMILIES["light_fpn"]}
    assert not [paper for paper, backbones in BACKBONES.items() if not there & set(backbones)]


@pytest.mark.parametrize(("network", "data"), sampled(COMPOSED, 4))
def test_a_network_is_built_as_on_each_of_its_data_sets(network: str, data: str) -> None:
    model = compose(network, data=data)["model"]
    if NETWORKS.resolve(model["network"]["type"]) is NETWORKS.get("smp"):
        return  # some of its encoders compute with tensors while they are built; they are trained below
    with torch.device("meta"):
        built = Segmentor(model["network"], model.get("supervision"))
    assert built.supervision.weights.keys() == (model.get("supervision") or {"main": {}}).keys()


@pytest.mark.parametrize("name", sampled(QUICK, 2))
def test_a_network_trains(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue("camvid_tree" if "camvid" in name else "cityscapes")
    train(name, root, tmp_path / "run", 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CONFIGS)
def test_all_networks_train(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue("camvid_tree" if "camvid" in name else "cityscapes")
    row = train(name, root, tmp_path / "run", 20)
    if os.environ.get("SEGKD_RECORD"):  # make test-full writes what it found
        content = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        content = {k: v for k, v in content.items() if k in CONFIGS}
        content[name] = row | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
        lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(content[k])}" for k in sorted(content))
        RESULTS.write_text("{\n" + lines + "\n}\n")


@pytest.mark.slow
def test_the_last_full_run_had_every_network() -> None:
    rows = json.loads(RESULTS.read_text())
    assert sorted(rows) == sorted(CONFIGS)  # a row missing: run make test-full
    assert all(row["steps"] >= 20 for row in rows.values())
