"""``init``: a student begins with what fits of a file with another head, and the run says what did not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import segkd
from segkd.errors import UserError
from segkd.models import create
from segkd.training.configfile import load_config
from segkd.workbench.composing import compose
from segkd.workbench.runs import load_student

SCENES = dict(type="synthetic", size=(64, 96), length=4)


def test_all_but_the_head_is_taken_and_the_rest_is_listed(tmp_path: Path) -> None:
    torch.manual_seed(1)
    old = create("contextnet", num_classes=3)
    torch.save(old.state_dict(), tmp_path / "old.pth")
    changes = dict(steps=1, lr=1e-9, batch=2, progress=False)
    run = segkd.train("contextnet", init=tmp_path / "old.pth", data=SCENES, out=tmp_path / "run", **changes)
    new = run.student.state_dict()
    for name, weight in old.named_parameters():
        same = new[name].shape == weight.shape and torch.allclose(new[name], weight, atol=1e-6)
        assert same == (not name.startswith("classifier")), name
    notes = [json.loads(line).get("note") or "" for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any("begins with: classifier.weight: (3, 128, 1, 1) in the file" in note for note in notes), notes
    (tmp_path / "old.pth").unlink()  # what was learnt needs it no more
    load_student(load_config(tmp_path / "run"), run.weights("last"))


def test_a_file_of_nothing_that_fits_is_refused(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other.pth: no tensor fits ContextNet"):
        segkd.train("contextnet", init=tmp_path / "other.pth", data=SCENES, steps=1, out=tmp_path / "run")
    with pytest.raises(UserError, match=r"nothing.pth"):
        compose("contextnet", init=tmp_path / "nothing.pth", data=SCENES)
    with pytest.raises(UserError, match=r"init= is for a network by name"):
        compose(create("contextnet", num_classes=11), init=tmp_path / "other.pth", data=SCENES)
    assert not (tmp_path / "run").exists()
