"""PASCAL Context in both of the forms in which its labels are passed on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_trees import H, W, save_image, save_label
from scipy.io import savemat

from segkd.datasets import create
from segkd.errors import UserError

# Of the authors' list of 459 (labels.txt).
PUBLISHED = {"aeroplane": 2, "bag": 9, "bedclothes": 19, "bicycle": 23, "person": 284, "sky": 360, "wood": 458,
             "window": 454, "tvmonitor": 427}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    voc = tmp_path / "VOCdevkit/VOC2010"
    save_image(voc / "JPEGImages/a.jpg")
    save_label(voc / "SegmentationClassContext/a.png", np.resize(np.arange(60), (H, W)))
    for folder in ("SegmentationContext", "Main"):
        (voc / "ImageSets" / folder).mkdir(parents=True)
        (voc / "ImageSets" / folder / "val.txt").write_text("a\n")
    return tmp_path


def test_background_is_a_class_or_void(root: Path) -> None:
    stored = np.resize(np.arange(60), (H, W))
    with_background, without = (create(n, root=root, split="val") for n in ("pascal_context", "pascal_context_59"))
    np.testing.assert_array_equal(with_background[0].label, stored)
    np.testing.assert_array_equal(without[0].label, np.where(stored == 0, 255, stored - 1))
    assert (with_background.num_classes, without.num_classes) == (60, 59)
    assert with_background.class_names[1:] == without.class_names


def test_the_authors_files_give_the_classes_of_those_names(root: Path) -> None:
    stored = np.resize(np.arange(460, dtype=np.uint16), (H, W))
    (root / "context/trainval").mkdir(parents=True)
    savemat(root / "context/trainval/a.mat", {"LabelMap": stored})
    data = create("pascal_context", root=root, split="val", labels=root / "context")
    label = data[0].label
    for name, number in PUBLISHED.items():
        assert (label[stored == number] == data.class_names.index(name)).all()
    assert len(np.unique(label[label > 0])) == 59
    assert (label[stored == 1] == 0).all()  # an accordion is background
    alone = create("pascal_context_59", root=root, split="val", labels=root / "context")[0].label
    np.testing.assert_array_equal(alone, np.where(label == 0, 255, label.astype(int) - 1))


def test_a_label_of_other_ids_is_named(root: Path) -> None:
    save_label(root / "VOCdevkit/VOC2010/SegmentationClassContext/a.png", np.full((H, W), 60))
    with pytest.raises(UserError, match=r"label value 60 .* ids 0\.\.59 of mmsegmentation's converter"):
        create("pascal_context", root=root, split="val")[0]
