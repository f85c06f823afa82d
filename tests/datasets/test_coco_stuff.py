"""COCO-Stuff 164k, on a small tree as its page has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_trees import H, W, save_image, save_label

from segkd.datasets import create
from segkd.errors import UserError

# Of the authors' labels.txt, whose numbers are one above those in the files.
PUBLISHED = {
    "person": 0,
    "bicycle": 1,
    "stop sign": 12,
    "parking meter": 13,
    "toothbrush": 89,
    "banner": 91,
    "wood": 181,
}
ABSENT = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)  # street sign, hat, shoe, ..., hair brush


@pytest.mark.parametrize("inside", [True, False])
def test_ids_become_the_classes_of_those_names(tmp_path: Path, inside: bool) -> None:
    root = tmp_path / "dataset"
    stored = np.resize([k for k in (*range(182), 255) if k not in ABSENT], (H, W))
    save_image(root / "images/val2017/000000000139.jpg")
    save_label(root / "annotations/val2017/000000000139.png", stored)
    save_label(root / "annotations/val2017/000000000139_labelTrainIds.png", stored)  # of mmsegmentation's converter
    data = create("coco_stuff", root=root if inside else tmp_path, split="val")
    assert (len(data), data.num_classes) == (1, 171)
    label = data[0].label
    for name, number in PUBLISHED.items():
        assert (label[stored == number] == data.class_names.index(name)).all()
    np.testing.assert_array_equal(np.unique(label), [*range(171), 255])
    np.testing.assert_array_equal(label == 255, stored == 255)


def test_an_id_that_never_occurs_is_named(tmp_path: Path) -> None:
    save_image(tmp_path / "images/train2017/1.jpg")
    save_label(tmp_path / "annotations/train2017/1.png", np.full((H, W), 11))
    with pytest.raises(UserError, match=r"label value 11 .* COCO-Stuff's ids"):
        create("coco_stuff", root=tmp_path)[0]
