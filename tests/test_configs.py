"""The shipped configs: each reads back as written, can be inspected, and trains on its data set's layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from segkd.cli.main import main
from segkd.datasets import create
from segkd.datasets.synthetic import SyntheticStreets
from segkd.engine.config import dump_config, load_config, shipped, textual

# The synthetic classes (those of CamVid) as the label ids of Cityscapes and of ADE20K, from their official tables.
CITYSCAPES = {"sky": 23, "building": 11, "pole": 17, "road": 7, "pavement": 8, "tree": 21, "sign": 20, "fence": 13,
              "car": 26, "pedestrian": 24, "bicyclist": 33}  # fmt: skip
ADE20K = {"sky": 3, "building": 2, "pole": 94, "road": 7, "pavement": 12, "tree": 5, "sign": 44, "fence": 33,
          "car": 21, "pedestrian": 13, "bicyclist": 128}  # fmt: skip
THERE = {"cityscapes": {"pavement": "sidewalk", "tree": "vegetation", "sign": "traffic sign", "pedestrian": "person",
                        "bicyclist": "bicycle"},
         "ade20k": {"pavement": "sidewalk", "sign": "signboard", "pedestrian": "person",
                    "bicyclist": "bicycle"}}  # fmt: skip
SCENES = {"train": 3, "val": 2}
ARMS = ("students/{}/fast_scnn", "teachers/{}/deeplabv3plus_r101", "distill/{}/fast_scnn_kd_cwd")


def write_pair(split: str, k: int, image_file: Path, label_file: Path, ids: Mapping[str, int]) -> None:
    image, label = SyntheticStreets(length=k + 1, size=(64, 128), split=split)[k]
    table = np.zeros(256, np.uint8)  # void is 0 in both
    for number, name in enumerate(SyntheticStreets.class_names):
        table[number] = ids[name]
    for file, content in ((image_file, cv2.cvtColor(image, cv2.COLOR_RGB2BGR)), (label_file, table[label])):
        file.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(file), content)


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cityscapes")
    for split, count in SCENES.items():
        for k in range(count):
            city, stem = ("aachen", "bochum")[k % 2], f"{k:06d}_000019"
            image = root / "leftImg8bit" / split / city / f"{city}_{stem}_leftImg8bit.png"
            label = root / "gtFine" / split / city / f"{city}_{stem}_gtFine_labelIds.png"
            write_pair(split, k, image, label, CITYSCAPES)
    return root


@pytest.fixture(scope="module")
def ade20k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ade")
    for split, count in SCENES.items():
        folder = {"train": "training", "val": "validation"}[split]
        for k in range(count):
            name = f"ADE_{split}_{k:08d}"
            base = root / "ADEChallengeData2016"
            files = (base / "images" / folder / f"{name}.jpg", base / "annotations" / folder / f"{name}.png")
            write_pair(split, k, *files, ADE20K)
    return root


@pytest.mark.parametrize("name", shipped())
def test_a_config_reads_back_as_written(name: str, tmp_path: Path) -> None:
    cfg = load_config(name)
    dump_config(cfg, tmp_path / "config.py")
    again = load_config(str(tmp_path / "config.py"))
    assert textual(again) == textual(cfg)
    dump_config(again, tmp_path / "again.py")
    assert (tmp_path / "again.py").read_text() == (tmp_path / "config.py").read_text()


def test_every_data_set_has_student_teacher_and_distillation() -> None:
    kinds = {tuple(name.split("/")[:2]) for name in shipped()}
    sets = ("camvid", "synthetic", "cityscapes", "ade20k")
    assert kinds == {(kind, name) for kind in ("students", "teachers", "distill") for name in sets}


@pytest.mark.parametrize("name", [n for n in shipped() if n.split("/")[1] in ("camvid", "synthetic")])
def test_inspect_needs_neither_data_nor_weights(name: str, tmp_path: Path) -> None:
    out = tmp_path / "inspect.json"
    assert main(["inspect", name, "--size", "64x96", "--json", str(out)]) == 0
    content = json.loads(out.read_text())
    logits = {role: layers[0] for role, layers in content["layers"].items()}
    assert all((x["path"], x["shape"]) == ("", [1, 11, 64, 96]) for x in logits.values())
    assert ("teacher" in logits) == bool(content["binds"]) == name.startswith("distill/")
    met = [1, 11, 8, 12] if "synthetic" in name else [1, 11, 64, 96]  # the heads' own maps; full-size logits
    for bind in content["binds"]:
        assert bind["student_met"] == bind["teacher_met"] == met


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
@pytest.mark.parametrize(
    "config", ["students/{}/fast_scnn", "teachers/{}/deeplabv3plus_r101", "distill/{}/fast_scnn_kd_cwd"]
)
def test_a_step_on_the_layout_as_distributed(
    data: str, config: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root, name = request.getfixturevalue(data), config.format(data)
    changes = [
        "data.augment.crop_size=64,128", "data.batch_size=2", "data.workers=0", "schedule.steps=2",
        "schedule.val_interval=2", "engine.log_interval=1",
    ]  # fmt: skip
    if "teachers" in name:
        changes.append("model.network.encoder=resnet18")  # a ResNet-101 would take the test's time
    if "distill" in name:
        changes += ["model.teacher.encoder=resnet18", "model.untrained_teacher=True"]
        changes.append("model.teacher.weights=None")
    sets = [part for change in changes for part in ("--set", change)]
    assert main(["train", name, "--data", str(root), "--out", str(tmp_path / "run"), *sets]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["val_last"]["mIoU"] >= 0
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "loss" in r] == [1, 2]
    assert all(np.isfinite(r["loss"]) for r in records if "loss" in r)
    binds = {key for key in records[0] if key.startswith("loss_bind_")}
    assert binds == ({"loss_bind_pixel", "loss_bind_channel"} if "distill" in name else set())
    classes = {"cityscapes": 19, "ade20k": 150}[data]
    assert len(create(data, root=root, split="val").class_names) == classes
