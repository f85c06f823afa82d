"""``segkd.advise``: the same numbers as the command's, of what ``segkd.distill`` takes."""

from __future__ import annotations

import pytest
from face_kit import SCENES

import segkd
from segkd.errors import UserError
from segkd.face.run import Run


def test_a_run_is_judged_as_a_teacher(teacher: Run, student: Run) -> None:
    found = segkd.advise(
        "contextnet", teacher, binds=["kd", "cwd"], data=SCENES, images=4, batches=1, batch=2, progress=False,
        student_weights=student,
    )  # fmt: skip
    assert found.images == {"train": 4, "val": 4}
    assert (found.teacher, found.student) == ("FastSCNN", "ContextNet")
    assert [pull["term"] for pull in found.pulls][:2] == ["kd", "cwd"]
    scores = segkd.evaluate([teacher, student], split="val", speed=False, progress=False).miou
    own = next(row for row in found.views if row["view"] == "size x 1")["val_miou"]
    assert found.student_scores is not None
    assert [own, found.student_scores["miou"]] == pytest.approx(list(scores.values()))
    assert str(found).splitlines()[0] == f"- {found.verdict[0].says}"
    assert "data.augment.scale" in found.settings


def test_misspelt_and_wrong_arguments_are_told(teacher: Run) -> None:
    with pytest.raises(UserError, match="did you mean 'images'"):
        segkd.advise("contextnet", teacher, image=3)
    with pytest.raises(UserError, match="is a run, its folder or a weights file"):
        segkd.advise("contextnet", teacher, data=SCENES, student_weights=3, progress=False)
