"""The scripts in tools/ whose checks nobody sees until they run on a GPU or a cluster."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FROZEN = json.loads((ROOT / "tests" / "golden" / "runs.json").read_text())["runs"]


@pytest.fixture(scope="module")
def gpu_check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "tools" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "found.json").write_text('{"checks": []}')
    return tmp_path / "found.json"


def checks(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())["checks"]
    return found


def test_every_check_is_written_at_once_and_a_failure_stops_none(gpu_check: ModuleType, file: Path) -> None:
    report = gpu_check.Report(file, "part", math.inf)

    def left_out() -> dict[str, Any]:
        raise gpu_check.LeftOutError("no reason")

    def failing() -> dict[str, Any]:
        gpu_check.demand(1 > 2, {"one": 1})
        return {}

    for count, function in enumerate((dict, left_out, failing, lambda: 1 / 0), 1):
        report.check("check", function)
        assert len(checks(file)) == count
    good, out, bad, worse = checks(file)
    assert [one["ok"] for one in (good, out, bad, worse)] == [True, None, False, False]
    assert out["error"] == "no reason"
    assert bad["numbers"] == {"one": 1}
    assert bad["error"] == 'does not hold: gpu_check.demand(1 > 2, {"one": 1})'
    assert worse["error"] == "ZeroDivisionError: division by zero"
    late = gpu_check.Report(file, "part", time.time() + 50)
    late.check("late", lambda: 1 / 0, needs=60)
    assert checks(file)[-1]["error"] == "no time left"


@pytest.mark.parametrize(
    ("place", "factor", "passes"),
    [
        ((0, "loss"), 1.0005, True),
        ((0, "loss"), 1.002, False),
        ((0, "gradients", "loss_main"), 1.05, True),
        ((0, "gradients", "loss_main"), 1.2, False),
        ((-1, "loss"), 1.5, True),  # late values have seen many roundings
    ],
)
def test_golden_runs_are_held_to_the_first_step(
    gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, ...], factor: float, passes: bool
) -> None:
    runs = gpu_check.golden_runs()
    found = copy.deepcopy(FROZEN["kd_cwd"])
    *outer, last = place
    inner: Any = [record for record in found["log"] if place[1] in record]
    for key in outer:
        inner = inner[key]
    inner[last] *= factor
    monkeypatch.setattr(runs, "observe", lambda name, run: found)
    if passes:
        numbers = gpu_check.against_golden(runs, "kd_cwd", FROZEN["kd_cwd"])
        assert numbers["bit_equal"]
    else:
        with pytest.raises(gpu_check.FoundError):
            gpu_check.against_golden(runs, "kd_cwd", FROZEN["kd_cwd"])


def test_a_run_with_dropout_from_the_cpu_is_the_frozen_one(gpu_check: ModuleType) -> None:
    from torch.nn import functional

    plain = functional.dropout
    numbers = gpu_check.against_golden(gpu_check.golden_runs(), "alone", FROZEN["alone"])
    assert numbers["first_step"] <= 1e-3
    assert functional.dropout is plain


def test_an_option_is_judged_by_its_losses(gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"fp32": [2.0, 1.0], "bf16": [2.01, 1.02]}

    def training(engine: Any, tiny: bool) -> Any:
        recorder = gpu_check.Recorder()
        recorder.losses, recorder.seconds = losses[engine.get("precision", "fp32")], [0.2, 0.1]
        return recorder, None

    monkeypatch.setattr(gpu_check, "short_training", training)
    seen: dict[str, list[float]] = {}
    gpu_check.option("fp32", True, seen)
    numbers = gpu_check.option("bf16", True, seen)
    assert numbers["ms_per_step"] == 100
    assert numbers["from_fp32_most"] == pytest.approx(0.02)
    for wrong in ([2.2, 1.0], [2.0, 1.4], [2.0, math.nan]):
        losses["bf16"] = wrong
        with pytest.raises(gpu_check.FoundError):
            gpu_check.option("bf16", True, seen)
    monkeypatch.setitem(gpu_check.OPTIONS, "new", (dict(never_heard_of=1), "fp32"))
    with pytest.raises(gpu_check.LeftOutError, match=r"not in this version: engine\.never_heard_of"):
        gpu_check.option("new", True, seen)


def run_gpu_check(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "gpu_check.py"), "--device", "cpu", "--tiny", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_part_that_does_not_end_fails_and_the_file_stays(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "found.json"
    done = run_gpu_check("--json", out, "--minutes", 0.001, "--parts", "golden")
    assert done.returncode == 1, done.stderr
    assert [(one["part"], one["ok"], one["error"]) for one in checks(out)] == [
        ("golden", False, "stopped at the time limit")
    ]
    assert {"versions", "hardware", "git_commit", "device", "seconds"} <= json.loads(out.read_text()).keys()


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu(tmp_path: Path) -> None:
    done = run_gpu_check("--json", tmp_path / "found.json")
    assert done.returncode == 0, done.stdout
    found = checks(tmp_path / "found.json")
    assert {one["part"] for one in found} == {"golden", "processes", "cwd", "cirkd", "options"}
    assert sum(one["ok"] is True for one in found) >= 11
