"""The confusion matrix as a picture and as CSV, the worst images, folded tables, and what is said of differences."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from segkd.report.confusion import draw_confusion, write_confusion, write_csv
from segkd.report.scoring import RIGHT, WRONG, as_file_name, difference_lines, draw_bad, write_scores
from segkd.report.tables import as_text, class_table, comparison_table

PALETTE = ((200, 0, 0), (0, 200, 0), (0, 0, 200))
NAMES = ["road", "car", "sky"]
COUNTS = np.array([[90, 10, 0], [50, 50, 0], [0, 0, 0]])


def test_the_picture_is_as_dark_as_the_share_of_the_row() -> None:
    many = np.zeros((60, 60), np.int64)
    many[np.arange(60), np.arange(60)], many[3, 7] = 1, 1
    picture = draw_confusion(many, [f"c{k}" for k in range(60)], "net")
    dark = (picture == (8, 64, 129)).all(-1)
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    cell = 1200 // 60
    assert abs(dark.sum() - 59 * (cell - 1) ** 2) < 59 * 2 * cell  # 59 cells of 100 %
    assert rows[-1] - rows[0] == pytest.approx(60 * cell, abs=3)
    assert columns[-1] - columns[0] == pytest.approx(60 * cell, abs=3)
    half = (np.abs(picture.astype(int) - (132, 160, 192)) <= 2).all(-1)
    assert half.sum() > 1.8 * (cell - 2) ** 2  # and two of 50 %


def test_classes_without_a_pixel_are_left_out_and_void_is_named() -> None:
    small, all_three = draw_confusion(COUNTS, NAMES, "x"), draw_confusion(COUNTS + np.eye(3, dtype=int), NAMES, "x")
    assert all_three.shape[0] - small.shape[0] == 34
    with_void = np.pad(COUNTS, (0, 1), constant_values=3)
    assert draw_confusion(with_void, NAMES, "x").shape[0] == all_three.shape[0] + 34
    assert draw_confusion(np.zeros((3, 3), int), NAMES, "nothing").ndim == 3


def test_csv_holds_the_counts(tmp_path: Path) -> None:
    write_confusion(tmp_path / "c.csv", np.pad(COUNTS, (0, 1)), ["a,b", 'c"d', "truth"])
    lines = list(csv.reader((tmp_path / "c.csv").open()))
    assert lines[0] == ["truth", "a,b", 'c"d', "truth", "void"]
    assert lines[1] == ["a,b", "90", "10", "0", "0"]
    write_csv(tmp_path / "x.csv", [{"name": "ü\n", "miou": math.nan, "pixels": 3}])
    assert list(csv.DictReader((tmp_path / "x.csv").open(newline=""))) == [{"name": "ü\n", "miou": "", "pixels": "3"}]


def test_mistakes_are_red_and_void_is_black() -> None:
    label = np.array([[0, 1], [2, 255]], np.uint8).repeat(32, 0).repeat(32, 1)
    guess = np.array([[0, 0], [2, 1]], np.uint8).repeat(32, 0).repeat(32, 1)
    bad = SimpleNamespace(name="a/b", miou=50.0, image=np.zeros((64, 64, 3), np.uint8), label=label, prediction=guess)
    drawn = draw_bad(bad, PALETTE)
    last = drawn[-68:, -68:]
    assert [tuple(last[y, x]) for y, x in ((20, 20), (20, 50), (50, 20), (50, 50))] == [RIGHT, WRONG, RIGHT, (0, 0, 0)]
    large = SimpleNamespace(
        **{**vars(bad), "image": np.zeros((700, 1400, 3), np.uint8)},
    )
    large.label = large.prediction = np.zeros((700, 1400), np.uint8)
    assert draw_bad(large, PALETTE).shape[1] == pytest.approx(4 * 640, abs=30)


def test_two_models_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    one = SimpleNamespace(row={"name": "a/x.pth", "miou": 1.0}, matrix=COUNTS, images=[{"name": "0"}], worst=[])
    other = SimpleNamespace(**{**vars(one), "row": {"name": "a_x.pth", "miou": 1.0}})
    folders = write_scores(tmp_path, [one, other], NAMES, PALETTE)
    assert [folder.name for folder in folders] == ["a_x.pth", "a_x.pth_2"]
    assert all(cv2.imread(str(folder / "confusion.png")) is not None for folder in folders)
    assert as_file_name("../..") == "model"


def test_a_table_folds_classes_that_no_one_has() -> None:
    values = {"net": [50.0, math.nan, math.nan], "other": [40.0, 0.0, math.nan]}
    text = as_text(class_table(values, NAMES))
    assert "car" in text
    assert "1 without a pixel: sky" in text
    assert not any(line.startswith("sky") for line in text.splitlines())
    assert "without" not in as_text(class_table({"net": [1.0, 2.0, 3.0]}, NAMES))


def test_intervals_and_metrics_have_columns() -> None:
    rows = [{"name": "net", "miou": 50.0, "miou_low": 48.25, "miou_high": 51.5, "boundary_iou": 30.0, "parts": {}}]
    text = as_text(comparison_table(rows))
    assert "48.25 .. 51.50" in text
    assert "30.00" in text


def test_what_is_said_of_a_difference() -> None:
    row = {"name": "int8", "base": "float", "gain": -0.3, "low": -0.4, "high": -0.2, "verdict": "worse"}
    close = {**row, "gain": 0.1, "low": -0.1, "high": 0.3, "verdict": "within noise"}
    lines = list(difference_lines([row, close]))
    assert lines[0] == "int8 against float: -0.30 mIoU, 95 % interval -0.40 .. -0.20: int8 is worse"
    assert lines[1].endswith("-0.10 .. +0.30: within noise")
    assert list(difference_lines([])) == []
