"""``segkd data``: a data set by its name, its config or its run, looked at before a training."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_kit import Refused, Run

from segkd.training.configfile import config_root


def test_verify_counts_each_split_and_has_nothing_to_say_of_a_good_set(segkd: Run, tree: Path) -> None:
    result = segkd("data", "verify", "camvid", "--root", tree)
    assert (result.code, result.err) == (0, "")
    lines = [line for line in result.out.splitlines() if not line.startswith("note: ")]
    assert [line.partition(",")[0] for line in lines] == ["train: 6 pairs", "val: 2 pairs", "test: 2 pairs"]
    assert all(line.endswith("0 problems") for line in lines)


@pytest.mark.parametrize("words", [["--data", "camvid", "--root"], ["camvid", "--set", "data.root={}"]])
def test_the_words_are_those_of_a_training(segkd: Run, tree: Path, words: list[str]) -> None:
    given = [*words[:-1], words[-1].format(tree)] if "{}" in words[-1] else [*words, tree]
    assert (
        segkd("data", "verify", *given, "--split", "test").out.splitlines()[-1].startswith("test: 2 pairs, 11 classes")
    )


def test_a_part_of_a_config_names_it_too(segkd: Run, tree: Path, tmp_path: Path) -> None:
    shipped = str(config_root() / "data" / "camvid.py")
    own = tmp_path / "mine.py"
    own.write_text(Path(shipped).read_text().replace("data/camvid", str(tree)))
    for words in (["--data", shipped, "--root", tree], [own]):
        assert segkd("data", "verify", *words, "--split", "test").out.splitlines()[-1].startswith("test: 2 pairs")


def test_a_run_folder_names_its_data(segkd: Run, trained: Path) -> None:
    assert segkd("data", "verify", trained, "--split", "val").out.splitlines()[-1].startswith("val: 2 pairs")


def test_verify_lists_all_problems_of_all_splits(segkd: Run, own_tree: Path, tmp_path: Path) -> None:
    label = np.zeros((64, 96), np.uint8)
    label[0, :5] = 77
    cv2.imwrite(str(own_tree / "labels/train/0.png"), label)
    (own_tree / "images/val/0.png").unlink()
    (own_tree / "labels/val/1.png").write_bytes(b"")
    result = segkd("data", "verify", "camvid", "--root", own_tree, "--json", tmp_path / "out.json")
    assert (result.code, result.err) == (2, "segkd data: error: 3 problems found\n")
    assert "label value 77 (5 pixels)" in result.out
    assert "val/0.png: no image file" in result.out
    assert "val/1.png: cannot be read as label" in result.out
    content = json.loads((tmp_path / "out.json").read_text())
    assert [len(split["problems"]) for split in content["splits"]] == [1, 2, 0]
    assert segkd("data", "verify", "camvid", "--root", own_tree, "--split", "test").code == 0


def test_verify_tells_classes_without_a_pixel_and_void(segkd: Run, own_tree: Path) -> None:
    label = np.full((64, 96), 255, np.uint8)
    label[:32] = 3
    for file in (own_tree / "labels/test").iterdir():
        cv2.imwrite(str(file), label)
    result = segkd("data", "verify", "camvid", "--root", own_tree, "--split", "test")
    assert result.code == 0
    count, note, alone, summary = result.out.splitlines()
    assert count == "note: test: 2 pairs, where 233 were published: is a part of it missing?"
    assert note.startswith("note: test: no pixel of sky, building, pole, pavement")
    assert "note: test: one class alone" in alone
    assert "void 50.0 %" in summary


def test_verify_of_ones_own_folder_tells_a_file_without_partner_once(segkd: Run, tmp_path: Path) -> None:
    for kind, high in (("photos", 256), ("masks", 2)):
        (tmp_path / kind).mkdir()
        for k in range(5):
            cv2.imwrite(
                str(tmp_path / kind / f"{k}.png"), np.random.default_rng(k).integers(0, high, (40, 56), np.uint8)
            )
    (tmp_path / "photos/3.png").unlink()
    (tmp_path / "classes.txt").write_text("ground\nweed\n")
    flags = ("--images", tmp_path / "photos", "--labels", tmp_path / "masks", "--classes", tmp_path / "classes.txt")
    result = segkd("data", "verify", "folder", *flags)
    assert (result.code, result.out.count("no image file '3.png'")) == (2, 1)
    assert (
        segkd("data", "verify", "folder", *flags, "--set", "data.dataset.ignore=1").out.count("no pixel of weed") == 2
    )


def test_mistakes_are_one_line(refused: Refused, tree: Path) -> None:
    assert "nothing named: give a data set" in refused("data", "verify")
    assert "unknown data set 'camvit'; did you mean 'camvid'" in refused("data", "verify", "camvit")
    assert "two data sets named" in refused("data", "verify", "camvid", "--data", "ade20k")
    assert "CamVid split 'train': root folder not found: nowhere" in refused(
        "data", "verify", "camvid", "--root", "nowhere"
    )
    assert "CamVid has no split 'vall'" in refused("data", "verify", "camvid", "--root", tree, "--split", "vall")
    assert "there are only keys of data" in refused("data", "verify", "camvid", "--set", "schedule.steps=2")
    assert "required: COMMAND" in refused("data")


def test_stats_prints_classes_sizes_and_weights_that_a_config_takes(segkd: Run, tree: Path, tmp_path: Path) -> None:
    result = segkd("data", "stats", "camvid", "--root", tree, "--json", tmp_path / "stats.json")
    assert result.code == 0, result.err
    assert "train: 6 images; height x width: 64x96 (6)" in result.out
    content = json.loads((tmp_path / "stats.json").read_text())
    assert sum(content["pixels"]) + content["void"] == 6 * 64 * 96
    shown = [line for line in result.out.splitlines() if line.startswith("class_weight=")]
    assert [json.loads(line.partition("=")[2]) for line in shown] == list(content["weights"].values())
    words = ["--student", "fast_scnn", "--data", "camvid", "--root", tree]
    override = f"model.supervision.main.loss.{shown[0]}"
    assert segkd("inspect", *words, "--set", override, "--size", "64x96").code == 0


def test_show_writes_a_sheet(segkd: Run, refused: Refused, tree: Path) -> None:
    result = segkd("data", "show", "camvid", "--root", tree, "--split", "val", "--augmented", "--crop", "32x64")
    assert result.code == 0, result.err
    assert "wrote val_sheet.png: 2 of the 2 pairs of val" in result.out
    height, width = cv2.imread("val_sheet.png").shape[:2]
    assert width == 4 * 366
    assert height > 2 * 240
    assert "sheet.jpg: the picture is a PNG" in refused("data", "show", "camvid", "--root", tree, "--out", "sheet.jpg")
