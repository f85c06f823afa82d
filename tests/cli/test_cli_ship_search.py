"""``segkd ship``: the search for the file within a budget, what it leaves, and how it goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_kit import Refused, Run

import segkd as package
from segkd.deploy.runtimes import OnnxRuntime
from segkd.errors import UserError
from segkd.workbench.ship import Budget, pareto_front

ROWS = [
    {"name": "a", "miou": 60.0, "latency_ms": 5.0},
    {"name": "b", "miou": 62.0, "latency_ms": 9.0},
    {"name": "c", "miou": 61.0, "latency_ms": 9.5},
    {"name": "d", "miou": 63.0, "latency_ms": 20.0},
]


def test_the_front_and_the_choice() -> None:
    assert [row["name"] for row in pareto_front(ROWS)] == ["a", "b", "d"]
    assert Budget(max_ms=10).choose(ROWS)["name"] == "b"
    assert Budget(max_ms=9).choose(ROWS)["name"] == "b"
    assert Budget(min_miou=61).choose(ROWS)["name"] == "b"
    assert Budget(min_miou=62.5).choose(ROWS)["name"] == "d"
    with pytest.raises(UserError, match=r"no file takes 4 ms or less here; the fastest, a, takes 5\.0 \(mIoU 60\.00\)"):
        Budget(max_ms=4).choose(ROWS)
    with pytest.raises(UserError, match=r"no file has an mIoU of 70; the best, d, has 63\.00 in 20\.0 ms"):
        Budget(min_miou=70).choose(ROWS)
    for wrong in ({}, {"max_ms": 3.0, "min_miou": 3.0}):
        with pytest.raises(UserError, match="one of both"):
            Budget(**wrong)


def test_search(segkd: Run, refused: Refused, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "ship"
    words = ("ship", trained, "--sizes", "64x96", "--ways", "onnxruntime,onnxruntime int8", "--images", 2)
    words = (*words, "--calibration", 2, "--out", out)
    line = refused(*words, "--max-ms", 1e-6)
    assert "no file takes 1e-06 ms or less here" in line
    assert sorted(path.name for path in out.iterdir()) == ["tries"]
    result = segkd(*words, "--max-ms", 1e6)
    assert result.code == 0, result.err
    content = json.loads((out / "ship.json").read_text())
    assert len(content["rows"]) == 8  # two ways, four tails
    assert content["chosen"]["miou"] == max(row["miou"] for row in content["rows"])
    assert content["chosen"]["name"] in content["front"]
    assert {path.name for path in out.iterdir()} == {
        *("CMakeLists.txt", "README.md", "front.png", "run.cpp", "run.py", "ship.json", "student.onnx", "tries"),
    }
    scores = json.loads((out / "tries" / "tries.json").read_text())["scores"]
    scores[content["rows"][0]["name"]] = 100.0  # what is scored is not scored again
    known = json.loads((out / "tries" / "tries.json").read_text()) | {"scores": scores}
    (out / "tries" / "tries.json").write_text(json.dumps(known))
    again = segkd(*words, "--min-miou", 99)
    assert again.code == 0, again.err
    assert json.loads((out / "ship.json").read_text())["chosen"]["miou"] == 100
    assert "holds tries of other weights" in refused(*words[:-2], "--images", 1, "--out", out, "--max-ms", 9)
    told = OnnxRuntime(out / "student.onnx").metadata["scores"]
    assert told == {"split": "val", "images": 2, "miou": 100}
    _runs(out, tmp_path)
    _same_from_python(trained, out)


def _same_from_python(run: Path, out: Path) -> None:
    """``segkd.ship`` goes on in the same folder, and writes the same files."""
    before = {path.name for path in out.iterdir()}
    ways = ["onnxruntime", "onnxruntime int8"]
    words = dict(sizes=[(64, 96)], ways=ways, images=2, calibration=2, out=out, progress=False)
    found = package.ship(run, min_miou=99, **words)
    assert found.row["miou"] == 100
    assert found.path == out / "student.onnx"
    assert {path.name for path in out.iterdir()} == before
    with pytest.raises(UserError, match="one of both"):
        package.ship(run, **words)
    with pytest.raises(UserError, match="what is shipped is a run"):
        package.ship(3, max_ms=3, **words)


def _runs(out: Path, folder: Path) -> None:
    """The script beside the file gives labels at the image's size, without segkd."""
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    cv2.imwrite(str(folder / "photo.png"), image)
    code = (out / "run.py").read_text()
    assert "segkd" not in code
    done = subprocess.run(
        [sys.executable, "run.py", str(folder / "photo.png")], cwd=out, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    labels = cv2.imread(str(out / "labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == (50, 70)
    assert labels.max() < 11
    assert "sky: " in done.stdout


def test_mistakes(refused: Refused, trained: Path, tmp_path: Path) -> None:
    words = ("ship", trained, "--sizes", "64x96", "--out", tmp_path / "ship")
    assert "unknown way 'onxruntime'" in refused(*words, "--max-ms", 9, "--ways", "onxruntime")
    assert "not allowed with argument" in refused(*words, "--max-ms", 9, "--min-miou", 9)
    assert "is no size" in refused("ship", trained, "--sizes", "64", "--max-ms", 9)
