"""A worker's crops cost little more than decoding, and kept images much less: measured in turns, by CPU time."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("loader_speed", ROOT / "tools" / "loader_speed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_numbers() -> None:
    rows = json.loads((ROOT / "datasets" / "loader_speed.json").read_text())["rows"]
    found = {row["kind"]: row["of_the_limit"] for row in rows}
    assert found["crops"] >= 0.95
    assert found["crops, colours varied"] >= 0.9
    assert found["crops of kept images, colours varied"] >= 2.5


@pytest.mark.slow
def test_it_holds_here(tool: ModuleType, tmp_path: Path) -> None:
    """With room for a busy machine."""
    found = tool.measure(tool.draw(tmp_path / "scenes", 4), tmp_path / "kept", 32)
    limit = found["decoding alone"]
    assert limit / found["crops"] > 0.85
    assert limit / found["crops, colours varied"] > 0.8
    assert limit / found["crops of kept images, colours varied"] > 2.5


def test_it_runs(tool: ModuleType, tmp_path: Path) -> None:
    found = tool.measure(tool.draw(tmp_path / "scenes", 2, (64, 128)), tmp_path / "kept", 4, (32, 64))
    assert len(found) == 5
    assert all(ms >= 0 for ms in found.values())
