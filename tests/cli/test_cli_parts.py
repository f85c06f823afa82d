"""The flags that compose a run, in place of CONFIG, and data of one's own in folders."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_kit import STUDENT, TINY, Refused, Run

from segkd.cli.common import add_config_arguments, config_words
from segkd.datasets import create
from segkd.training.configfile import load_config


@pytest.fixture
def folders(tmp_path: Path) -> list[object]:
    """Flags of ten images with masks of three classes beside them."""
    rng = np.random.default_rng(0)
    for kind in ("photos", "masks"):
        (tmp_path / kind).mkdir()
    for k in range(10):
        cv2.imwrite(str(tmp_path / "photos" / f"{k}.png"), rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
        cv2.imwrite(str(tmp_path / "masks" / f"{k}.png"), rng.integers(0, 3, (64, 96), dtype=np.uint8))
    (tmp_path / "classes.txt").write_text("sky\n\nroad\ncar\n")
    files = {"--images": "photos", "--labels": "masks", "--classes": "classes.txt"}
    return ["--data", "folder", *(part for flag, name in files.items() for part in (flag, tmp_path / name))]


def test_the_flags_of_a_config_are_said_as_they_can_be_typed_again() -> None:
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    for words in ("run", "--student espnet --data camvid --root 'my data' --set model.network.q=8"):
        given = parser.parse_args(shlex.split(words))
        assert config_words(given) == words
        assert parser.parse_args(shlex.split(config_words(given))) == given


def test_a_run_is_composed_by_name(segkd: Run, tree: Path, trained: Path, tmp_path: Path) -> None:
    """It goes to a folder of what composes it, whose config is the whole run and goes on without the flags."""
    small = ["--skip-preflight", *TINY]  # the teacher has hardly learnt
    teacher = f"fast_scnn@{trained / 'student_last.pth'}"
    result = segkd("train", *STUDENT, "--teacher", teacher, "--recipe", "cwd", "--root", tree, *small)
    assert result.code == 0, result.err
    folder = Path("work/fast_scnn_cwd_camvid")
    cfg = load_config(folder)
    assert cfg["model"]["binds"]["channel"]["weight"] == 3.0
    assert cfg["model"]["teacher"]["weights"] == str(trained / "student_last.pth")
    assert cfg["model"]["supervision"].keys() == {"main", "aux_detail", "aux_context"}
    assert segkd("train", folder, "--resume", "--steps", 3, small[0]).code == 0
    assert json.loads((tmp_path / folder / "metrics.json").read_text())["steps"] == 3
    assert segkd("train", *STUDENT, "--teacher", trained, "--root", tree, *small).code == 0
    assert (tmp_path / "work/fast_scnn_kd_camvid/metrics.json").is_file()  # kd unless a recipe is named


def test_config_or_student_is_named_not_both_or_neither(refused: Refused, trained: Path) -> None:
    assert "CONFIG says all of a run: leave out --student, or CONFIG" in refused("train", trained, *STUDENT[:2])
    assert "leave out --recipe" in refused("train", trained, "--recipe", "kd")
    assert "nothing named: give --student NAME and --data NAME" in refused("train")
    assert "nothing named" in refused("inspect", "--data", "camvid")
    assert "no data set: give data=" in refused("train", "--student", "unet")
    assert "no teacher" in refused("train", *STUDENT, "--recipe", "kd")
    assert "did you mean 'mgd'" in refused("train", *STUDENT, "--teacher", trained, "--recipe", "mgdd")


def test_data_in_folders_of_ones_own(segkd: Run, folders: list[object], tmp_path: Path) -> None:
    words = ["train", "--student", "fast_scnn", *folders, "--val", "0.3", "--crop", "32x64", "--steps", 2, "--batch", 2]
    result = segkd(*words, "--set", "data.workers=0", "--set", "schedule.val_interval=2")
    assert result.code == 0, result.err
    assert "of 2 images, into work/fast_scnn_folder" in result.out
    cfg = load_config("work/fast_scnn_folder")
    assert cfg["model"]["network"]["num_classes"] == 3
    assert cfg["data"]["augment"]["crop_size"] == (32, 64)
    assert cfg["data"]["dataset"]["val"] == 0.3
    assert cfg["schedule"]["steps"] == 2
    metrics = json.loads((tmp_path / "work/fast_scnn_folder/metrics.json").read_text())
    assert metrics["val_last"]["mIoU"] >= 0


def test_what_is_for_validation_is_drawn_once(folders: list[object]) -> None:
    words = dict(images=str(folders[3]), labels=str(folders[5]), class_names=str(folders[7]))
    draws = [(0.3, 0), (0.3, 0), (0.3, 1)]
    halves = [
        {split: create("folder", **words, split=split, val=val, seed=seed).pairs for split in ("train", "val")}
        for val, seed in draws
    ]
    assert halves[0] == halves[1] != halves[2]
    train, val = halves[0]["train"], halves[0]["val"]
    assert (len(train), len(val)) == (7, 3)
    assert not [pair for pair in train if pair in val]


def test_mistakes_with_folders(segkd: Run, refused: Refused, folders: list[object], tmp_path: Path) -> None:
    student = ["train", "--student", "fast_scnn"]
    needs = {"--images": "name the folder", "--labels": "labels are missing", "--classes": "holds the ids 0, 1, 2"}
    for flag, message in needs.items():
        at = folders.index(flag)
        assert message in refused(*student, *folders[:at], *folders[at + 2 :])
    assert "--images belongs to data of your own" in refused(*student, "--data", "camvid", *folders[2:])
    assert "--val belongs to data of your own" in refused(*student, "--data", "camvid", "--val", "0.2")
    assert "is no number in 0..1" in segkd(*student, *folders, "--val", "2").err  # with the usage above
    assert "too few for a validation share of 0.97" in refused(*student, *folders, "--val", "0.97")
    (tmp_path / "classes.txt").write_text("sky\nroad\nsky\n")
    assert "names the class 'sky' twice" in refused(*student, *folders)
    (tmp_path / "classes.txt").write_text("\n")
    assert "holds no class names" in refused(*student, *folders)
    (tmp_path / "classes.txt").unlink()
    assert "cannot read class names" in refused(*student, *folders)
    assert not (tmp_path / "work").exists()
