"""Counts of a split and the weights that follow, against counting by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import segkd
from segkd.datasets import Sample, SegmentationDataset, create
from segkd.errors import UserError
from segkd.workbench.data_stats import count_split
from segkd.workbench.datasets import open_section


class Drawn(SegmentationDataset):
    """Three labels of two sizes with the classes 0 and 1, and void."""

    class_names = ("a", "b", "never")
    palette = ((1, 1, 1), (2, 2, 2), (3, 3, 3))
    labels = (np.zeros((4, 10)), np.ones((4, 10)), np.full((2, 10), 255))

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        label = self.labels[index].astype(np.uint8)
        if index == 1:
            label[:3] = 0
        return Sample(np.zeros((*label.shape, 3), np.uint8), label)


def test_counts_and_weights_are_those_by_hand() -> None:
    found = segkd.data.stats(Drawn(), progress=False)
    assert (found.pairs, found.looked, found.void) == (3, 3, 20)
    assert (found.pixels, found.images) == ([70, 10, 0], [2, 1, 0])
    assert found.beside == [80, 40, 0]
    assert found.sizes == {(4, 10): 2, (2, 10): 1}
    assert found.shares == [0.7, 0.1, 0.0]
    weights = found.weights()
    assert weights["inverse_frequency"] == pytest.approx([80 / 140, 4.0, 0.0], abs=1e-4)
    assert weights["median_frequency"] == pytest.approx([0.5625 / 0.875, 0.5625 / 0.25, 0.0], abs=1e-4)
    assert weights["enet"] == pytest.approx([1 / np.log(1.72), 1 / np.log(1.12), 1 / np.log(1.02)], abs=1e-4)
    assert weights["effective_number"] == pytest.approx([2 / 3, 4 / 3, 0.0], abs=1e-3)
    assert found.as_dict()["sizes"] == [[4, 10, 2], [2, 10, 1]]


def test_real_shares_are_those_of_the_shipped_part(camvid_root: Path) -> None:
    from segkd.workbench.composing import read_part

    found = segkd.data.stats("camvid", root=camvid_root, progress=False)
    assert found.shares == pytest.approx(read_part("data", "camvid")["frequencies"], abs=1e-9)


def test_a_limit_counts_some_and_says_so(camvid_tree: Path) -> None:
    found = count_split(open_section("camvid", camvid_tree), limit=2)
    assert (found.pairs, found.looked) == (6, 2)
    data = create("camvid", root=camvid_tree)
    both = [data.label_of(k) for k in (0, 3)]
    assert sum(found.pixels) == sum(int((label != 255).sum()) for label in both)


def test_mistakes(camvid_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no split 'vall'"):
        segkd.data.stats("camvid", root=camvid_tree, split="vall")
    with pytest.raises(UserError, match=r"segkd\.data\.stats has no argument 'rot'; did you mean 'root'"):
        segkd.data.stats("camvid", rot=camvid_tree)
    with pytest.raises(UserError, match="void everywhere"):
        segkd.data.stats(type("Void", (Drawn,), {"labels": (np.full((2, 2), 255),), "__len__": lambda _: 1})())


def test_verify_and_show_are_functions_too(camvid_tree: Path, tmp_path: Path) -> None:
    (split,) = segkd.data.verify("camvid", root=camvid_tree, split="val", progress=False)
    assert (split.name, split.pairs, split.problems) == ("val", 2, [])
    picture = segkd.data.show("camvid", root=camvid_tree, count=2, out=tmp_path / "a.png", progress=False)
    assert picture.ndim == 3
    assert (tmp_path / "a.png").stat().st_size > 1000
    both = segkd.data.show(Drawn(), augmented=True, size=(32, 32), count=2, progress=False)
    assert both.shape[1] == picture.shape[1]
