"""Mapillary Vistas, both versions of its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_trees import H, W, save_image
from PIL import Image

from segkd.datasets import create
from segkd.errors import UserError

# Of config_v1.2.json and config_v2.0.json.
PUBLISHED = {"mapillary": {"Bird": 0, "Road": 13, "Person": 19, "Car": 55, "Ego Vehicle": 64},
             "mapillary_v2": {"Bird": 0, "Concrete Block": 3, "Person": 30, "Bicyclist": 32, "Car": 108,
                              "Static": 122}}  # fmt: skip
VOID = {"mapillary": {65}, "mapillary_v2": {2, 31, 38, 79, 86, 96, 115, 123}}
FOLDERS = {"mapillary": "v1.2/labels", "mapillary_v2": "v2.0/labels"}


def save(root: Path, labels: str, count: int) -> np.ndarray:
    stored = np.resize(np.arange(count, dtype=np.uint8), (H, W + 24))
    save_image(root / "training/images/x.jpg", size=stored.shape)
    file = root / "training" / labels / "x.png"
    file.parent.mkdir(parents=True)
    picture = Image.fromarray(stored, mode="P")
    picture.putpalette([k % 256 for k in range(768)])
    picture.save(file)
    return stored


@pytest.mark.parametrize(("name", "count"), [("mapillary", 66), ("mapillary_v2", 124)])
def test_ids_become_the_classes_of_those_names(tmp_path: Path, name: str, count: int) -> None:
    stored = save(tmp_path, FOLDERS[name], count)
    data = create(name, root=tmp_path)
    label = data[0].label
    for class_name, number in PUBLISHED[name].items():
        assert (label[stored == number] == data.class_names.index(class_name)).all()
    assert set(stored[label == 255].tolist()) == VOID[name]
    assert data.num_classes == count - len(VOID[name]) == len(np.unique(label)) - 1


def test_the_archive_of_the_first_version_alone_is_read_too(tmp_path: Path) -> None:
    save(tmp_path, "labels", 66)
    assert len(create("mapillary", root=tmp_path)) == 1
    with pytest.raises(UserError, match=r"folder not found: .*v2\.0"):
        create("mapillary_v2", root=tmp_path)
    with pytest.raises(UserError, match=r"has no validation/images"):
        create("mapillary", root=tmp_path, split="val")
