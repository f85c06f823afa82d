"""Tables and lines of advice."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from segkd.report.advice import band, borders_table, setting_lines, teaching_table, views_table
from segkd.report.tables import as_text
from segkd.training.overrides import override

NAN = float("nan")


def test_tables_say_what_was_measured() -> None:
    view = dict(view="size x 0.5", train_accuracy=72.3, train_miou=33.0, val_accuracy=71.0, val_miou=NAN)
    assert as_text(views_table([view])).splitlines()[-1].split() == ["size", "x", "0.5", "72.3", "33.0", "71.0", "–"]
    border = {"from": 16, "to": None, "val_share": 50.0, "train_accuracy": 99.0, "val_accuracy": 98.0}
    assert "16 or more" in as_text(borders_table([border]))
    assert [band({"from": a, "to": b}) for a, b in ((1, 1), (2, 3))] == ["1", "2-3"]
    rows = [{"class": "sky", "train_iou": 95.0, "val_iou": 90.0}]
    assert "room" not in as_text(teaching_table(rows))
    known = teaching_table([rows[0] | {"student_iou": 93.0, "room": -3.0}])
    assert as_text(known).splitlines()[-1].split() == ["sky", "95.0", "90.0", "93.0", "-3.0"]


@pytest.mark.parametrize(
    "value",
    [
        (0.75, 2.0),
        False,
        1.3,
        0.00021,
        dict(student="", teacher="", loss=dict(type="dist", temperature=1.3), weight=0.5, masked=True),
    ],
)
def test_settings_are_read_back_as_they_were(value: Any) -> None:
    cfg: dict[str, Any] = {"model": {"binds": {}}, "data": {"augment": {"type": "x"}}}
    key = "model.binds.dist" if isinstance(value, dict) else "data.augment.thing"
    (line,) = setting_lines({key: value})
    _, text = shlex.split(line)
    override(cfg, text)
    read = cfg["model"]["binds"].get("dist") if isinstance(value, dict) else cfg["data"]["augment"]["thing"]
    assert read == value
