"""Data of one's own converted and divided from Python."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import segkd
from segkd.errors import UserError

sys.path.append(str(Path(__file__).parents[1] / "datasets"))

import own_trees


def test_converting_and_dividing_from_python(tmp_path: Path) -> None:
    own_trees.write(tmp_path / "own", "yolo", 8)
    found = segkd.data.convert(tmp_path / "own", tmp_path / "ids", progress=False)
    assert (found.images, found.class_names) == ({None: 8}, list(own_trees.NAMES))
    labels = np.stack([own_trees.truth(own_trees.scene(k)) for k in range(8)])
    assert found.pixels == np.bincount(labels.ravel(), minlength=4).tolist()
    assert found.void == 0
    divided = segkd.data.split(str(tmp_path / "own"), val=0.25, progress=False)
    assert {split: len(names) for split, names in divided.images.items()} == {"train": 6, "val": 2}
    total = np.sum(list(divided.pixels.values()), axis=0)
    assert total.tolist() == found.pixels
    named = segkd.data.split(
        dict(type="folder", root=str(tmp_path / "own")), out=tmp_path / "lists", force=True, progress=False
    )
    assert (tmp_path / "lists/val.txt").read_text().split() == named.images["val"]


@pytest.mark.parametrize("out", ["", "labels/.."])
def test_converting_never_writes_over_the_data(tmp_path: Path, out: str) -> None:
    own = own_trees.write(tmp_path / "own", "palette", 3)
    before = {path: path.read_bytes() for path in (tmp_path / "own").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"holds the data itself, which would be written over"):
        segkd.data.convert(dict(type="folder", **own), tmp_path / "own" / out, force=True, progress=False)
    segkd.data.convert(dict(type="folder", **own), tmp_path / "ids", progress=False)
    with pytest.raises(UserError, match=r"holds the data itself"):
        segkd.data.convert(tmp_path / "ids", tmp_path / "ids", force=True, progress=False)
    assert before == {path: path.read_bytes() for path in (tmp_path / "own").rglob("*") if path.is_file()}
