"""What was measured of the losses is of all of them, and is what the page shows."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from segkd.losses import names

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench", ROOT / "tests" / "textbook" / "bench.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_loss_is_compared_with_its_textbook_form(bench: ModuleType) -> None:
    assert set(bench.CASES) == set(names())


def test_the_page_shows_what_was_measured(bench: ModuleType) -> None:
    measured = json.loads((ROOT / "tests" / "textbook" / "bench.json").read_text())
    rows, wholes = measured["rows"], measured["whole"]
    assert [row["loss"] for row in rows] == list(bench.CASES)  # a row missing: run make bench
    assert [row["loss"] for row in wholes] == list(bench.WHOLE)
    page = (ROOT / "configs" / "distill" / "README.md").read_text(encoding="utf-8")
    for table in (bench.table(rows), bench.whole_table(wholes)):
        assert "\n".join(table) in page  # bench.py --markdown ends with the tables


def test_the_page_shows_the_comparison_on_camvid() -> None:
    rows = json.loads((ROOT / "configs" / "distill" / "camvid" / "comparison.json").read_text())["rows"]
    page = (ROOT / "configs" / "distill" / "README.md").read_text(encoding="utf-8")
    section = page.partition("## On CamVid")[2].partition("##")[0]
    shown = [line.split(" | ")[1:] for line in section.splitlines() if line.startswith("| ")][1:]
    scores = sorted(((row["test_miou"], row["val_miou"]) for row in rows.values()), reverse=True)
    assert [tuple(float(cell.strip("| ")) for cell in cells) for cells in shown] == scores
