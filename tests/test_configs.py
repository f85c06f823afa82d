"""What the shipped parts compose: it reads back as written, can be inspected, trains on its data set's layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sampling import sampled
from test_network_configs import COMPOSED

from segkd.cli.main import main
from segkd.datasets import create
from segkd.datasets.synthetic import SyntheticStreets
from segkd.training.configfile import dump_config, load_config, textual
from segkd.workbench.composing import compose

THERE = {"cityscapes": {"pavement": "sidewalk", "tree": "vegetation", "sign": "traffic sign", "pedestrian": "person",
                        "bicyclist": "bicycle"},
         "ade20k": {"pavement": "sidewalk", "sign": "signboard", "pedestrian": "person",
                    "bicyclist": "bicycle"}}  # fmt: skip
ARMS = {"alone": ("fast_scnn", None), "teacher": ("deeplabv3plus_r101", None), "taught": ("fast_scnn", "kd_cwd")}
#: those whose data is drawn, or is not asked for
INSPECTED = [*((n, d, None) for n, d in COMPOSED if d in ("camvid", "synthetic")), ("fast_scnn", "camvid", "kd_cwd")]


@pytest.mark.parametrize(("student", "data"), sampled(COMPOSED, 3))
def test_a_config_reads_back_as_written(student: str, data: str, tmp_path: Path) -> None:
    cfg = compose(student, data=data)
    dump_config(cfg, tmp_path / "config.py")
    again = load_config(str(tmp_path / "config.py"))
    assert textual(again) == textual(cfg)
    dump_config(again, tmp_path / "again.py")
    assert (tmp_path / "again.py").read_text() == (tmp_path / "config.py").read_text()


@pytest.mark.parametrize(("student", "data", "recipe"), sampled(INSPECTED, 4))
def test_inspect_needs_neither_data_nor_weights(student: str, data: str, recipe: str | None, tmp_path: Path) -> None:
    out = tmp_path / "inspect.json"
    taught = ["--teacher", "espnet_q8_camvid@none.pth", "--recipe", recipe] if recipe else []
    words = ["inspect", "--student", student, "--data", data, *taught, "--size", "64x96", "--json", str(out)]
    assert main(words) == 0
    content = json.loads(out.read_text())
    logits = {role: layers[0] for role, layers in content["layers"].items()}
    assert all((x["path"], x["shape"]) == ("", [1, 11, 64, 96]) for x in logits.values())
    assert ("teacher" in logits) == bool(content["binds"]) == bool(recipe)
    for bind in content["binds"]:
        assert bind["student_met"] == bind["teacher_met"] == [1, 11, 64, 96]


@pytest.mark.parametrize("name", ["cityscapes", "ade20k"])
def test_labels_become_the_classes_of_those_names(name: str, request: pytest.FixtureRequest) -> None:
    dataset = create(name, root=request.getfixturevalue(name), split="val")
    drawn = SyntheticStreets(length=2, size=(64, 128), split="val")
    for k in range(2):
        expected, label = drawn[k].label, dataset[k].label
        assert np.array_equal(label == 255, expected == 255)
        for number in np.unique(expected[expected != 255]):
            here = drawn.class_names[number]
            read = {dataset.class_names[c] for c in np.unique(label[expected == number])}
            assert read == {THERE[name].get(here, here)}


@pytest.mark.parametrize("data", ["cityscapes", "ade20k"])
@pytest.mark.parametrize("arm", ARMS)
def test_a_step_on_the_layout_as_distributed(
    data: str, arm: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root, (student, recipe) = request.getfixturevalue(data), ARMS[arm]
    changes = [
        "data.augment.crop_size=64,128", "data.batch_size=2", "data.workers=0", "schedule.steps=2",
        "schedule.warmup=0",
        "schedule.val_interval=2", "engine.log_interval=1",
    ]  # fmt: skip
    words = ["--student", student, "--data", data]
    if arm == "teacher":
        changes.append("model.network.encoder=resnet18")  # a ResNet-101 would take the test's time
    if recipe:
        words += ["--schedule", "40k", "--teacher", "deeplabv3plus_r18@none.pth", "--recipe", recipe]
        changes += ["model.untrained_teacher=True", "model.teacher.weights=None"]
    sets = [part for change in changes for part in ("--set", change)]
    assert main(["train", *words, "--root", str(root), "--out", str(tmp_path / "run"), *sets]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["val_last"]["mIoU"] >= 0
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "loss" in r] == [1, 2]
    assert all(np.isfinite(r["loss"]) for r in records if "loss" in r)
    losses = next(r for r in records if "loss" in r)
    binds = {key for key in losses if key.startswith("loss_bind_")}
    assert binds == ({"loss_bind_pixel", "loss_bind_channel"} if recipe else set())
    classes = {"cityscapes": 19, "ade20k": 150}[data]
    assert len(create(data, root=root, split="val").class_names) == classes
