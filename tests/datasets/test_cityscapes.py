"""Cityscapes: its table against the official scripts', coarse labels, train ids; what is wrong with a root."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_trees import H, W, ids, save_frame, save_image, save_label

from segkd.datasets import create
from segkd.datasets.cityscapes import TRAINED_IDS, Cityscapes
from segkd.errors import UserError

FRAME = "ulm_000000_000019"


def test_classes_ids_and_colours_are_those_of_the_official_scripts() -> None:
    """``pip install cityscapesscripts``."""
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    trained = sorted((label for label in labels if 0 <= label.trainId < 255), key=lambda label: label.trainId)
    assert tuple(label.name for label in trained) == Cityscapes.class_names
    assert tuple(label.id for label in trained) == TRAINED_IDS
    assert tuple(label.color for label in trained) == Cityscapes.palette
    assert {label.id for label in labels} == {-1, *range(34)}


def save_coarse(root: Path, stored: np.ndarray, split: str = "train_extra") -> None:
    save_image(root / f"leftImg8bit/{split}/ulm/{FRAME}_leftImg8bit.png")
    save_label(root / f"gtCoarse/{split}/ulm/{FRAME}_gtCoarse_labelIds.png", stored)


def test_coarse_labels(tmp_path: Path) -> None:
    stored = np.resize(np.arange(34), (H, W))
    save_coarse(tmp_path, stored)
    data = create("cityscapes", root=tmp_path, split="train_extra", coarse=True)
    assert data.name_of(0) == f"ulm/{FRAME}"
    assert (data[0].label[stored == 26] == 13).all()
    with pytest.raises(UserError, match="no split 'train_extra'; there is: train, val, test"):
        create("cityscapes", root=tmp_path, split="train_extra")
    with pytest.raises(UserError, match=r"has no gtFine "):
        create("cityscapes", root=tmp_path)


def test_train_ids_are_read_where_they_are_alone_or_named(tmp_path: Path) -> None:
    save_frame(tmp_path, "ulm", np.full((H, W), 26))
    stem = tmp_path / f"gtFine/train/ulm/{FRAME}_gtFine_"
    train_ids = np.where(ids(0, 0, 20) == 19, 255, ids(0, 0, 20))
    save_label(Path(f"{stem}labelTrainIds.png"), train_ids)
    assert (create("cityscapes", root=tmp_path)[0].label == 13).all()
    np.testing.assert_array_equal(create("cityscapes", root=tmp_path, ids="labelTrainIds")[0].label, train_ids)
    Path(f"{stem}labelIds.png").unlink()
    np.testing.assert_array_equal(create("cityscapes", root=tmp_path)[0].label, train_ids)
    with pytest.raises(UserError, match="ids is 'labelIds' or 'labelTrainIds', got 'color'"):
        create("cityscapes", root=tmp_path, ids="color")


def test_a_wrong_root_is_told_where_the_right_one_is(tmp_path: Path) -> None:
    root = tmp_path / "data/cityscapes"
    save_frame(root, "ulm", np.zeros((H, W)))
    for wrong in (tmp_path, root / "leftImg8bit", root / "gtFine/train"):
        with pytest.raises(UserError, match=rf"has no leftImg8bit .*it is in {root}: give that as the root"):
            create("cityscapes", root=wrong)


def test_labels_of_another_split_are_suspected(tmp_path: Path) -> None:
    for k, folder in enumerate(("leftImg8bit", "gtFine")):
        save_frame(tmp_path / str(k), "ulm", np.zeros((H, W)), frame=f"00000{k}_000019")
        (tmp_path / str(k) / folder).rename(tmp_path / folder)
    with pytest.raises(UserError, match=r"no image has a label of its name .*labels those of another split"):
        create("cityscapes", root=tmp_path)
