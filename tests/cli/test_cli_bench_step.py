"""``segkd bench step``: what it prints at any width, the JSON beside it, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cli_kit import TAUGHT, Refused, Run

SMALL = ["--size", "32x64", "--batch", 2, "--threads", 1, "--repeats", 2]
PLAIN = ["--set", "engine.precision=fp32", "--set", "engine.channels_last=False"]


def test_40_columns_show_every_part(segkd: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segkd.cli.common.console._width", 40)
    words = ["bench", "step", *TAUGHT, *SMALL, *PLAIN, "--untrained", "--random-images", "--json", tmp_path / "s.json"]
    result = segkd(*words)
    assert result.code == 0, result.err
    content = json.loads((tmp_path / "s.json").read_text())
    lines = result.out.splitlines()
    assert lines[0] == "images of 32x64 (HxW), batch 2, fp32, cpu, 1 threads:"
    for row in [*content["rows"], {"name": "a step", "ms": content["step_ms"], "share": 1}]:
        assert f"{row['name']} {row['ms']:.2f} {100 * row['share']:.1f}" in [" ".join(line.split()) for line in lines]
    assert {"loss_bind_pixel", "loss_bind_channel", "loss_main", "student forward", "teacher forward"} <= {
        row["name"] for row in content["rows"]
    }
    assert "measured with untrained networks and noise for images" in lines
    said = re.search(r"the loop takes ([\d.]+) .*of a bare loop's time", result.out)
    assert said is not None
    assert float(said[1]) == pytest.approx(content["ratio"], abs=1e-3)
    assert {"versions", "hardware", "git_commit", "seed"} <= content.keys()
    assert content["about"]["batch"] == 2


def test_a_run_folder_is_measured_and_left_as_it_was(segkd: Run, trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    result = segkd("bench", "step", trained, *SMALL, *PLAIN)
    assert result.code == 0, result.err
    assert "loss_main" in result.out
    assert "measured with" not in result.out
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_what_it_cannot_measure_is_refused(refused: Refused) -> None:
    assert "nothing named" in refused("bench", "step")
    assert "takes one config" in refused("bench", "step", "a.py", "b.py")
    assert "takes one config" in refused("bench", "step", *TAUGHT, "--channels", 8)
    assert "weights file is not found" in refused("bench", "step", *TAUGHT)
    assert "are for `segkd bench step" in refused("bench", *TAUGHT, "--untrained")
