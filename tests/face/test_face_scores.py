"""``segkd.evaluate`` with what ``segkd eval`` has: views, metrics, intervals, files."""

from __future__ import annotations

from pathlib import Path

import pytest
from face_kit import SCENES

import segkd
from segkd.errors import UserError
from segkd.face.run import Run

QUICK = dict(speed=False, progress=False)


def test_windows_metrics_intervals_and_files(student: Run, teacher: Run, tmp_path: Path) -> None:
    models = {"student": student.student, "teacher": teacher.student}
    found = segkd.evaluate(
        models, data=SCENES, window=(32, 48), stride=(16, 40), flip=True, metrics=["boundary_iou", "ece"],
        interval=True, out=tmp_path / "scores", worst=1, **QUICK,
    )  # fmt: skip
    whole = segkd.evaluate(models, data=SCENES, **QUICK)
    assert found["student"]["miou"] != whole["student"]["miou"]
    assert set(found["student"]["parts"]) == {"boundary_iou"}
    assert found["student"]["miou_low"] <= found["student"]["miou"] <= found["student"]["miou_high"]
    (gain,) = found.differences
    assert gain["gain"] == pytest.approx(found["teacher"]["miou"] - found["student"]["miou"])
    assert "teacher against student" in repr(found)
    assert whole.differences == []
    for name in models:
        files = {path.name for path in (tmp_path / "scores" / name).iterdir()}
        assert files == {"confusion.png", "confusion.csv", "images.csv", "worst"}


def test_what_cannot_be_is_a_line(student: Run) -> None:
    for words, says in (
        (dict(window=(32, 32), stride=(33, 32)), "leave gaps"),
        (dict(metrics=["f2"]), "unknown metric 'f2'; did you mean 'f1'"),
        (dict(metrics=["iiou"]), "SyntheticStreets has none"),
        (dict(scales=()), "scales must be positive"),
    ):
        with pytest.raises(UserError, match=says):
            segkd.evaluate(student.student, data=SCENES, **words, **QUICK)  # type: ignore[arg-type]
