"""What was measured of the losses is of all of them, and is what the page shows.

Slow, as everything that counts what there is of each loss: a new one needs no more than its file and its test.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from segkd.losses import names

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


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
    page = (ROOT / "configs" / "recipes" / "README.md").read_text(encoding="utf-8")
    for table in (bench.table(rows), bench.whole_table(wholes)):
        assert "\n".join(table) in page  # bench.py --markdown ends with the tables
    cost = {row["loss"]: f"{row['ms']:.0f}" for row in (*rows, *wholes)}  # of the whole method where a part is compared
    about = page.partition("| name | method | tap | weight | ms |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.split("|")] for line in about.splitlines() if line.startswith("| `")]
    assert {row[1].strip("`"): row[5] for row in cells} == cost


def test_the_page_shows_the_comparison_on_camvid() -> None:
    folder = ROOT / "configs" / "recipes" / "results"
    rows, again = (json.loads((folder / f"comparison{x}.json").read_text())["rows"] for x in ("", "_seed1"))
    page = (ROOT / "configs" / "recipes" / "README.md").read_text(encoding="utf-8")
    section = page.partition("## On CamVid")[2].partition("##")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    shown = {line.split("|")[1].strip(): [float(c) for c in line.split("|")[2:-1] if c.strip()] for line in lines}
    special = {"teacher": "teacher: published ESPNet", "alone": "Fast-SCNN alone", "cirkd": "`cirkd`, smaller"}
    special["af_dcd_as_for_cityscapes"] = "`af_dcd`, as for Cityscapes"
    titles = {name: special.get(name, f"`{name}`") for name in rows}
    ranked = sorted(rows, key=lambda name: (rows[name]["test_miou"], rows[name]["val_miou"]), reverse=True)
    want = [(titles[name], [rows[name]["test_miou"], rows[name]["val_miou"]]) for name in ranked]
    assert [(title, cells[:2]) for title, cells in shown.items()] == want
    second = {name: cells[2:] for name, cells in shown.items() if cells[2:]}
    titles = {name: title for name, title in titles.items() if name in again and name != "teacher"}
    assert second == {title: [again[name]["test_miou"], again[name]["val_miou"]] for name, title in titles.items()}


def test_the_page_shows_what_the_teachers_scale_changed() -> None:
    rows = json.loads((ROOT / "configs" / "recipes" / "results" / "teacher_scale.json").read_text())["rows"]
    page = (ROOT / "configs" / "recipes" / "README.md").read_text(encoding="utf-8")
    section = page.partition("## A faint teacher")[2].partition("##")[0]
    shown = [[c.strip() for c in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    empty = ["", ""]
    want = [
        [f"`{name}`", str(row["steps"]), *(f"{x:g}" for x in row["beside"]), *map(str, row.get("explained", empty))]
        for name, row in rows.items()
        if "beside" in row
    ]
    assert shown == want
    assert f"{rows['fsp']['error'][0]} times" in section
