"""Data sets made of others: several as one, a part of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_trees import H, W, plain_camvid, save_frame, save_label, segnet_camvid

from segkd.datasets import create
from segkd.datasets.verify import verify
from segkd.errors import UserError


@pytest.fixture
def both(tmp_path: Path) -> list[dict[str, object]]:
    """Three pairs of each split in either layout of CamVid."""
    plain, segnet = plain_camvid(tmp_path / "plain"), segnet_camvid(tmp_path / "segnet")
    return [dict(type="camvid", root=plain), dict(type="camvid", root=segnet)]


def names(data: object) -> list[str]:
    return [data.name_of(k) for k in range(len(data))]


# --- concat --------------------------------------------------------------------------------------------------------


def test_concat_is_one_set_after_the_other(both: list[dict[str, object]]) -> None:
    data = create("concat", sets=both, split="val")
    first, second = (create(one["type"], root=one["root"], split="val") for one in both)
    assert len(data) == 6
    assert names(data) == [*(f"1/{name}" for name in names(first)), *(f"2/{name}" for name in names(second))]
    for k in range(6):
        expected = (first, second)[k // 3][k % 3]
        np.testing.assert_array_equal(data[k].image, expected.image)
        np.testing.assert_array_equal(data.label_of(k), expected.label)
    np.testing.assert_array_equal(data[-1].label, second[2].label)
    for index in (6, -7):
        with pytest.raises(IndexError):
            data[index]


def test_a_set_may_have_a_split_of_its_own(both: list[dict[str, object]]) -> None:
    data = create("concat", sets=[both[0], both[1] | dict(split="train")], split="val")
    assert names(data)[2:4] == ["1/val_c", "2/train0"]


def test_classes_that_differ_are_named(both: list[dict[str, object]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set 2 \(SyntheticStreets\) .*: class 6 is 'sign', not 'sign symbol'"):
        create("concat", sets=[both[0], dict(type="synthetic", length=2)])
    save_frame(tmp_path, "ulm", np.zeros((H, W)))
    with pytest.raises(UserError, match="class 0 is 'road', not 'sky'"):
        create("concat", sets=[both[0], dict(type="cityscapes", root=tmp_path)])
    with pytest.raises(UserError, match="concat needs sets="):
        create("concat", sets=[])


def test_verify_finds_all_problems_of_all_sets(both: list[dict[str, object]]) -> None:
    plain, segnet = (Path(str(one["root"])) for one in both)
    (plain / "labels/train/train_a.png").unlink()
    save_label(plain / "labels/train/train_b.png", np.full((H, W + 1), 77))
    save_label(segnet / "trainannot/train2.png", np.full((H, W), 12))
    problems = verify(create("concat", sets=both, split="train", check=False))
    found = [
        text.partition("train_a.jpg: no label")[1] or text.partition(": ")[2].partition(" (")[0] for text in problems
    ]
    assert found == ["train_a.jpg: no label", "label is 57 x 40", "label value 77", "label value 12"]


# --- subset --------------------------------------------------------------------------------------------------------


def test_a_share_is_drawn_once_and_smaller_ones_lie_within_larger() -> None:
    streets = dict(of="synthetic", length=400, size=(32, 64))
    drawn = {share: names(create("subset", **streets, share=share, seed=3)) for share in (0.02, 0.2, 0.5, 1.0)}
    assert [len(found) for found in drawn.values()] == [8, 80, 200, 400]
    assert set(drawn[0.02]) < set(drawn[0.2]) < set(drawn[0.5]) < set(drawn[1.0])
    assert names(create("subset", **streets, count=8, seed=3)) == drawn[0.02]
    assert names(create("subset", **streets, count=8, seed=4)) != drawn[0.02]
    assert drawn[0.5] == sorted(drawn[0.5])


def test_its_pairs_are_those_of_the_whole_and_validation_stays_whole(both: list[dict[str, object]]) -> None:
    whole = create("camvid", root=both[0]["root"])
    part = create("subset", of=both[0], count=1, split="train")
    (name,) = names(part)
    np.testing.assert_array_equal(part[0].label, whole[names(whole).index(name)].label)
    assert len(create("subset", of=both[0], count=1, split="val")) == 3
    assert len(create("subset", of=both[0], count=1, split="val", splits=("train", "val"))) == 1


def test_named_pairs(both: list[dict[str, object]], tmp_path: Path) -> None:
    assert names(create("subset", of=both[0], names=["train_c", "train_a"])) == ["train_a", "train_c"]
    (tmp_path / "list.txt").write_text("train_b\n\n")
    assert names(create("subset", of="camvid", root=both[0]["root"], names=tmp_path / "list.txt")) == ["train_b"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "needs one of share"),
        ({"share": 0.5, "count": 2}, "needs one of share"),
        ({"share": 1.5}, "at most 1, got 1.5"),
        ({"share": 0}, "share"),
        ({"count": 4}, "count=4 of 3 pairs; take fewer"),
        ({"names": ["train_d"]}, "no pair is called 'train_d'; did you mean 'train_"),
        ({"names": []}, "names is empty"),
        ({"names": "nowhere.txt"}, r"cannot read the list of the split, nowhere\.txt"),
        ({"count": 1, "root": "x"}, "no argument 'root': give it within of="),
    ],
)
def test_mistakes_with_subsets(both: list[dict[str, object]], changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create("subset", of=both[0], **changes)


def test_parts_of_parts(both: list[dict[str, object]]) -> None:
    joined = dict(type="concat", sets=both)
    part = create("subset", of=joined, count=4, split="train")
    assert len(part) == 4
    assert all(name in names(create("concat", sets=both, split="train")) for name in names(part))
    assert verify(part) == []
