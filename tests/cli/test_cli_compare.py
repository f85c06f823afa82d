"""``segkd compare`` as a user types it, and ``segkd.compare``."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from cli_kit import Refused, Run

import segkd as package
from segkd.models import create

SCENES = ["--data", "synthetic", "--set", "data.dataset.size=32,64", "--crop", "32x64", "--set", "data.workers=0"]
LENGTHS = ["--set", "data.train.length=4", "--set", "data.val.length=3"]


def test_it_trains_compares_and_goes_on(segkd: Run, refused: Refused, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(create("contextnet", num_classes=11).state_dict(), tmp_path / "w.pth")
    argv = ["compare", "--student", "fast_scnn", "--teacher", f"contextnet@{tmp_path / 'w.pth'}", *SCENES, *LENGTHS]
    argv += ["--recipes", "alone,kd", "--steps", 2, "--batch", 2, "--out", tmp_path / "out"]
    result = segkd(*argv, "--seeds", 1, "--json", tmp_path / "deep" / "found.json")
    assert result.code == 0, result.err
    assert "alone, seed 0 (training 1 of at most 2 of this sitting)" in result.out
    assert "fast_scnn on 3 images of val, last weights:" in result.out
    assert "one seed: its interval is over images alone" in result.out
    assert (tmp_path / "out" / "comparison.png").is_file()
    content = json.loads((tmp_path / "deep" / "found.json").read_text())
    assert content == json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert {"rows", "teacher", "versions", "hardware", "batch_size"} <= content.keys()
    result = segkd(*argv, "--seeds", 2)
    assert result.code == 0, result.err
    assert "alone, seed 1 (training 1 of at most 4 of this sitting)" in result.out
    assert "seed 0 (" not in result.out
    assert "was trained with another optim.optimizer.lr" in refused(*argv, "--lr", 0.5)
    assert "'a,,b' is no list of names" in refused("compare", "--recipes", "a,,b")
    assert "'x,1' are no seeds" in refused("compare", "--seeds", "x,1")
    assert "nothing named" in refused("compare", "--data", "synthetic")


def test_from_python(tmp_path: Path) -> None:
    scenes = dict(type="synthetic", size=(32, 64), length=3)
    words = dict(data=scenes, steps=2, batch=2, progress=False)
    teacher = package.train("contextnet", out=tmp_path / "teacher", preflight=False, **words)  # type: ignore[arg-type]
    found = package.compare("fast_scnn", teacher, recipes=["alone", "cwd"], seeds=[5], out=tmp_path / "out", **words)  # type: ignore[arg-type]
    assert {row["name"] for row in found.rows} == {"alone", "cwd"}
    assert list(found.rows[0]["scores"]) == [5]
