"""The full ADE20K of 2021, read as the 150 classes of scene parsing; the colours of these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_trees import H, W, save_image
from PIL import Image

from segkd.datasets import create
from segkd.datasets.ade20k import ADE20K
from segkd.errors import UserError

# Of the release's own annotations: the index in the colours and the (first) name of the object beside it; those that
# are none of the 150 classes, with None.
INDICES = {"wall": 2978, "building": 312, "sky": 2420, "tree": 2855, "road": 2131, "person": 1831, "car": 401,
           "sidewalk": 2377, "signboard": 2380, "streetlight": 2616, "traffic light": 2836, "minibike": 1563,
           "ashcan": 64, "bicycle": 187, "truck": 2880, "van": 2928, "fountain": 1023, "awning": 77}  # fmt: skip
NO_CLASS = (0, 461, 118, 597, 1231, 2901, 3113)  # nothing, central reservation, banner, container, helmet, ...
RELEASE = "ADE20K_2021_17_01"


def save_pair(folder: Path, index: np.ndarray) -> None:
    save_image(folder / "ADE_train_00000001.jpg", size=index.shape)
    colours = np.dstack([index // 256 * 10, index % 256, np.resize([0, 17, 200], index.shape)]).astype(np.uint8)
    Image.fromarray(colours).save(folder / "ADE_train_00000001_seg.png")
    Image.fromarray(colours).save(folder / "ADE_train_00000001_parts_1.png")  # beside it, not to be read


@pytest.mark.parametrize("inside", [True, False])
def test_indices_in_colours_become_the_classes_of_those_names(tmp_path: Path, inside: bool) -> None:
    index = np.resize([*INDICES.values(), *NO_CLASS], (H, W))
    save_pair(tmp_path / RELEASE / "images/ADE/training/urban/street", index)
    data = create("ade20k_full", root=tmp_path / RELEASE if inside else tmp_path)
    assert [data.name_of(k) for k in range(len(data))] == ["urban/street/ADE_train_00000001"]
    label = data[0].label
    for name, number in INDICES.items():
        assert (label[index == number] == data.class_names.index(name)).all()
    np.testing.assert_array_equal(label == 255, np.isin(index, NO_CLASS))


def test_every_class_has_an_index() -> None:
    from segkd.datasets.tables import read_ids

    assert set(read_ids("ade20k_full").values()) == set(range(1, 151))


def test_colours_are_the_challenges() -> None:
    """Some of color150.mat's rows, by name."""
    shown = {"wall": (120, 120, 120), "sky": (6, 230, 230), "person": (150, 5, 61), "car": (0, 102, 200),
             "flag": (92, 0, 255)}  # fmt: skip
    colours = dict(zip(ADE20K.class_names, ADE20K.palette, strict=True))
    assert {name: colours[name] for name in shown} == shown


def test_a_missing_split_and_the_challenges_root_are_named(tmp_path: Path) -> None:
    save_pair(tmp_path / RELEASE / "images/ADE/training/x", np.zeros((H, W), int))
    with pytest.raises(UserError, match=r"split 'val': folder not found: .*validation"):
        create("ade20k_full", root=tmp_path, split="val")
    with pytest.raises(UserError, match=r"has no annotations \(the root holds images/ and annotations/\)"):
        create("ade20k", root=tmp_path / RELEASE)
