"""``segkd eval``: metrics by name, windows and strides, intervals, and what it writes into a folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli_kit import Refused, Run

from segkd.datasets.camvid import CamVid
from segkd.report.tables import METRICS as TITLES

QUICK = ("--no-speed",)


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_scores_of_every_kind_in_one_run(segkd: Run, trained: Path, exported: Path, tree: Path, tmp_path: Path) -> None:
    best, last = trained / "student_best.pth", trained / "student_last.pth"
    names = "macc,aacc,fwiou,precision,recall,f1,boundary_iou,boundary_f1,ece"
    out, file = tmp_path / "scores", tmp_path / "eval.json"
    result = segkd(
        "eval", trained, best, last, exported, *QUICK, "--metrics", names, "--interval", "--out", out, "--worst", 1,
        "--json", file,
    )  # fmt: skip
    assert result.code == 0, result.err
    content = read(file)
    rows = content["rows"]
    for name in names.split(","):
        assert 0 <= rows[0][name] <= 100, name
        assert TITLES[name].split("\n")[-1] in result.out
    assert rows[0]["macc"] == pytest.approx(rows[0]["mean_accuracy"])
    assert rows[0]["aacc"] == pytest.approx(rows[0]["pixel_accuracy"])
    assert rows[1]["miou_low"] <= rows[1]["miou"] <= rows[1]["miou_high"]
    assert len(content["differences"]) == 3
    of_export = next(one for one in content["differences"] if one["base"] == "student_last.pth")
    assert of_export["gain"] == pytest.approx(rows[2]["miou"] - rows[1]["miou"])
    assert "mIoU, 95 % interval" in result.out
    assert result.out.count(f"wrote {out}") == 3
    _check_files(out / "student_last.pth", rows[1], CamVid(tree, "val"))


def _check_files(folder: Path, row: dict[str, Any], dataset: CamVid) -> None:
    """The counts, the scores of each image, and the pictures agree with the row and with the data."""
    table = list(csv.reader((folder / "confusion.csv").open()))
    assert table[0] == ["truth", *dataset.class_names]
    assert [line[0] for line in table[1:]] == list(dataset.class_names)
    counts = np.array([line[1:] for line in table[1:]], float)
    hit, union = counts.diagonal(), counts.sum(0) + counts.sum(1) - counts.diagonal()
    assert 100 * np.mean(hit[union > 0] / union[union > 0]) == pytest.approx(row["miou"])
    labels = [dataset[k].label for k in range(len(dataset))]
    np.testing.assert_array_equal(counts.sum(1), [sum(int((x == k).sum()) for x in labels) for k in range(11)])
    images = list(csv.DictReader((folder / "images.csv").open()))
    assert [one["name"] for one in images] == [dataset.name_of(k) for k in range(len(dataset))]
    assert [int(one["pixels"]) for one in images] == [int((x != 255).sum()) for x in labels]
    lowest = min(images, key=lambda one: float(one["miou"]))
    (picture,) = (folder / "worst").iterdir()
    assert picture.name == f"01_{lowest['name']}.png"
    assert cv2.imread(str(picture)).shape[1] > 4 * labels[0].shape[1]
    assert min(cv2.imread(str(folder / "confusion.png")).shape[:2]) > 300


def test_a_model_beside_itself_is_within_noise(segkd: Run, trained: Path, tmp_path: Path) -> None:
    weights, twin = trained / "student_last.pth", tmp_path / "twin.pth"
    twin.write_bytes(weights.read_bytes())
    result = segkd("eval", trained, weights, twin, *QUICK, "--interval")
    assert result.code == 0, result.err
    assert "twin.pth against student_last.pth: +0.00 mIoU, 95 % interval +0.00 .. +0.00: within noise" in result.out
    alone = segkd("eval", trained, weights, *QUICK, "--metrics", "f1")
    assert "per class (%)" in alone.out  # of one model its metrics stand side by side
    assert "against" not in alone.out


def test_windows_take_onnx_files_of_their_size(
    segkd: Run, refused: Refused, trained: Path, exported: Path, tmp_path: Path
) -> None:
    """The file takes 64x96; windows of 48x64 are none of its own, and with --resize it takes them too."""
    message = refused("eval", trained, exported, *QUICK, "--window", "48x64")
    assert "student.onnx takes images of 64x96 (HxW), but is to see windows of 48x64; give windows of 64x96" in message
    assert segkd("eval", trained, exported, *QUICK, "--window", "48x64", "--resize").code == 0
    assert segkd("eval", trained, exported, *QUICK, "--window", "64x96").code == 0
    assert "scales show it others" in refused("eval", trained, exported, *QUICK, "--scales", "0.5,1")


def test_files_that_give_labels_are_scored_once_and_as_wholes(
    segkd: Run, refused: Refused, trained: Path, exported: Path, tmp_path: Path
) -> None:
    weights, labels, file = trained / "student_last.pth", tmp_path / "labels.onnx", tmp_path / "eval.json"
    made = segkd(
        "export",
        trained,
        "--weights",
        weights,
        "--size",
        "64x96",
        "--output",
        "labels",
        "--tail",
        "full",
        "--out",
        labels,
    )
    assert made.code == 0, made.err
    result = segkd("eval", trained, exported, labels, *QUICK, "--interval", "--json", file)
    assert result.code == 0, result.err
    first, second = read(file)["rows"]
    assert first["miou"] == pytest.approx(second["miou"], abs=0.5)  # near ties, of a network of two steps
    for option in (["--flip"], ["--window", "64x96"], ["--metrics", "ece"]):
        assert "labels.onnx gives labels alone" in refused("eval", trained, labels, *QUICK, *option)


def test_strides_and_what_the_config_says(segkd: Run, trained: Path, tmp_path: Path) -> None:
    weights, found = trained / "student_last.pth", []
    options = (["--window", "40x48", "--stride", "8x12"], ["--set", "evaluation.window=40,48", "--set",
               "evaluation.stride=8,12"], ["--window", "40x48"])  # fmt: skip
    for number, option in enumerate(options):
        assert segkd("eval", trained, weights, *QUICK, *option, "--json", tmp_path / f"{number}.json").code == 0
        found.append(read(tmp_path / f"{number}.json"))
    assert found[0]["rows"][0]["miou"] == found[1]["rows"][0]["miou"] != found[2]["rows"][0]["miou"]
    assert found[1]["window"] == [40, 48]
    assert found[1]["stride"] == [8, 12]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--window", "40x40", "--stride", "41x40"], "windows of 40x40 moved by 41x40 (HxW) leave gaps"),
        (["--stride", "20x20"], "a stride is that of windows: give a window, too"),
        (["--window", "40x40", "--stride", "0x3"], "'0x3' is no stride; write HxW in pixels"),
        (["--metrics", "boundary-iou"], "unknown metric 'boundary-iou'; did you mean 'boundary_iou'"),
        (["--metrics", "f1,f1"], "the metric 'f1' is named twice"),
        (["--metrics", "iiou"], "the metric iiou needs the instances of the truth, and CamVid has none"),
        (["--metrics", "category_iou"], "the metric category_iou needs categories of classes, and CamVid has none"),
        (["--worst", "3"], "--worst says how many images are drawn in a folder: name it, --out DIR"),
        (["--set", "evaluation.stride=50,50", "--set", "evaluation.window=40,40"], "config: evaluation: windows of"),
        (["--set", "evaluation.scales=0,1"], "evaluation.scales must be factors of the image's size"),
        (["--set", "evaluation.window=40"], "evaluation.window must be a size (H, W), got 40"),
        (["--set", "evaluation.flop=True"], "did you mean 'flip'"),
    ],
)
def test_what_cannot_be_is_a_line(refused: Refused, trained: Path, options: list[str], says: str) -> None:
    assert says in refused("eval", trained, trained / "student_last.pth", *QUICK, *options)


def test_a_folder_that_cannot_be_written(refused: Refused, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "it is no folder" in refused("eval", trained, *QUICK, "--out", tmp_path / "file")
