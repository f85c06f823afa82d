"""One's own data by its folder: trained on, converted and divided, as datasets/folder/README.md says."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_kit import Refused, Run
from PIL import Image

from segkd.cli.main import parse
from segkd.datasets import create

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests/datasets"))

import own_trees  # noqa: E402

README = (ROOT / "datasets/folder/README.md").read_text(encoding="utf-8")
COMMANDS = [line.partition("  #")[0].strip() for line in re.findall(r"^ {4,}(segkd .*)$", README, re.MULTILINE)]
SHORT = ["--steps", 2, "--batch", 2, "--crop", "32x64", "--skip-preflight", "--set", "data.workers=0"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_s_commands_are_understood(command: str) -> None:
    assert len(COMMANDS) >= 9
    assert parse(shlex.split(command)[1:]).command in ("data", "train")


def test_masks_in_black_and_white_are_trained_by_two_commands(segkd: Run, refused: Refused, tmp_path: Path) -> None:
    """Those of the README, and what they save a user from."""
    data = tmp_path / "DATA"
    own_trees.write_images(data / "images", 10)
    (data / "labels").mkdir()
    for k in range(10):
        mask = np.where(own_trees.truth(own_trees.scene(k)) > 1, 255, 0).astype(np.uint8)
        Image.fromarray(mask).save(data / "labels" / f"{own_trees.name(k)}.png")
    student = ["train", "--student", "fast_scnn", "--data", "DATA"]
    assert "labels holds the ids 0, 255" in refused(*student, *SHORT)
    said = refused(*student, "--classes", "ground,crop", *SHORT)
    assert "masks hold 0 and 255 alone. If 255 is a class, say" in said
    assert "--label-map 0:0,255:1" in said
    first, second = [shlex.split(command)[1:] for command in COMMANDS if "0:0,255:1" in command]
    looked = segkd(*first)
    assert (looked.code, looked.err) == (0, "")
    assert "train: 8 pairs, 2 classes, void 0.0 %, 0 problems" in looked.out
    trained = segkd(*second, *SHORT)
    assert trained.code == 0, trained.err
    metrics = json.loads((tmp_path / "work/fast_scnn_DATA/metrics.json").read_text())
    assert metrics["val_last"]["mIoU"] < 100


@pytest.mark.parametrize("kind", ["cvat", "coco_runs", "colours"])
def test_converted_labels_are_those_that_were_read(segkd: Run, refused: Refused, tmp_path: Path, kind: str) -> None:
    own_trees.write(tmp_path / "own", kind, 6)
    result = segkd("data", "convert", "own", "--out", "ids", "--json", "said.json")
    assert result.code == 0, result.err
    assert result.out.splitlines()[-2:] == ["train on them: segkd train --student NAME --data ids", "wrote said.json"]
    data = create("folder", root=tmp_path / "ids")
    assert tuple(data.class_names) == own_trees.NAMES
    for k in range(6):
        np.testing.assert_array_equal(data[k].label, own_trees.truth(own_trees.scene(k)))
    pixels = np.bincount(np.stack([data.label_of(k) for k in range(6)]).ravel(), minlength=4)
    assert json.loads((tmp_path / "said.json").read_text())["pixels"] == pixels.tolist()
    assert "ids holds converted labels already: train on it, or write them anew by --force" in refused(
        "data", "convert", "own", "--out", "ids"
    )
    assert segkd("data", "convert", "own", "--out", "ids", "--force").code == 0


def test_own_data_by_flags_alone(segkd: Run, refused: Refused, tmp_path: Path) -> None:
    own_trees.write(tmp_path / "own", "ids", 5)
    flags = [
        "--images",
        "own/images",
        "--labels",
        "own/labels",
        "--classes",
        "background,road,car,sign",
        "--val",
        "0.4",
    ]
    result = segkd("data", "verify", *flags)
    assert [line for line in result.out.splitlines() if "pairs" in line] == [
        "train: 3 pairs, 4 classes, void 0.0 %, 0 problems",
        "val: 2 pairs, 4 classes, void 0.0 %, 0 problems",
    ]
    assert "or list them: road,car" in refused("data", "verify", "own", "--classes", "road")
    assert "data 'own/classes.txt' is no folder" in refused("data", "verify", "own/classes.txt")
    assert "holds no images with labels that are known" in refused("data", "verify", tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "photos/a.jpg")
    assert "photos holds no images with labels that are known" in refused("data", "verify", "photos")


def test_a_conversion_that_was_stopped_goes_on(segkd: Run, refused: Refused, tmp_path: Path) -> None:
    own_trees.write(tmp_path / "own", "labelme", 6)
    broken = tmp_path / "own/images/clip0_0003.json"
    whole = broken.read_text()
    broken.write_text(whole.replace('"label": "road"', '"label": "roof"'))
    assert "label 'roof'" in refused("data", "convert", "own", "--out", "ids")
    done = sorted((tmp_path / "ids/labels").iterdir())
    assert [path.name for path in done] == [f"clip0_000{k}.png" for k in range(3)]
    assert not (tmp_path / "ids/pairs.csv").exists()
    broken.write_text(whole)
    before = [path.stat().st_mtime_ns for path in done]
    assert segkd("data", "convert", "own", "--out", "ids").code == 0
    assert [path.stat().st_mtime_ns for path in done] == before
    assert len(create("folder", root=tmp_path / "ids")) == 6
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    assert "is not empty and holds no conversion" in refused("data", "convert", "own", "--out", "other")
    assert "SyntheticStreets is not made of files" in refused("data", "convert", "synthetic", "--out", "drawn")


def test_images_are_divided_and_the_lists_are_found(segkd: Run, refused: Refused, tmp_path: Path) -> None:
    own_trees.write(tmp_path / "own", "ids", 20)
    result = segkd(
        "data", "split", "own", "--val", "0.25", "--test", "0.25", "--group", "prefix", "--json", "said.json"
    )
    assert result.code == 0, result.err
    said = json.loads((tmp_path / "said.json").read_text())
    lists = {split: (tmp_path / f"own/splits/{split}.txt").read_text().splitlines() for split in said["images"]}
    assert lists == said["images"]
    assert {split: len({name[:5] for name in own}) for split, own in lists.items()} == {"train": 2, "val": 1, "test": 1}
    for split, own in lists.items():
        data = create("folder", root=tmp_path / "own", split=split)
        assert [data.name_of(k) for k in range(len(data))] == own
    assert "train.txt is there already: write over it by --force" in refused("data", "split", "own")
    again = segkd("data", "split", "own", "--force")
    assert again.code == 0, again.err
    assert "names look like frames of 4 sequences (clip0, clip1, clip2, ...)" in again.out
    assert not (tmp_path / "own/splits/test.txt").exists()
    assert "this data has splits of its own already" in refused("data", "split", "own", "--out", "elsewhere")
    assert "shares between 0 and 1" in refused("data", "split", "own", "--val", "0.6", "--test", "0.5", "--force")
    assert "has splits of its own; what is divided" in refused("data", "split", "synthetic", "--out", "lists")
