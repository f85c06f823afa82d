"""PASCAL VOC 2012 and SBD's labels, on a small tree as distributed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_trees import H, W, ids, save_image
from PIL import Image
from scipy.io import savemat

from segkd.datasets import create
from segkd.datasets.voc2012 import VOC2012
from segkd.errors import UserError

LISTS = "VOCdevkit/VOC2012/ImageSets/Segmentation"


def save_voc_label(path: Path, label: np.ndarray) -> None:
    """A palette PNG, as VOC's are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(label.astype(np.uint8), mode="P")
    picture.putpalette([v for colour in VOC2012.palette for v in colour])
    picture.save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pairs a (train) and b (val); images c, d and e without labels of VOC."""
    voc = tmp_path / "VOCdevkit/VOC2012"
    for k, name in enumerate("abcde"):
        save_image(voc / f"JPEGImages/{name}.jpg", k)
    (tmp_path / LISTS).mkdir(parents=True)
    for k, (split, name) in enumerate({"train": "a", "val": "b"}.items()):
        label = ids(k, 0, 21)
        label[0] = 255
        save_voc_label(voc / f"SegmentationClass/{name}.png", label)
        (tmp_path / LISTS / f"{split}.txt").write_text(f"{name}\n")
    return tmp_path


def test_voc_reads_palette_pngs_of_the_listed_names(root: Path) -> None:
    data = create("voc2012", root=root, split="val")
    assert [data.name_of(k) for k in range(len(data))] == ["b"]
    expected = ids(1, 0, 21)
    expected[0] = 255
    np.testing.assert_array_equal(data[0].label, expected)
    assert len(create("voc2012", root=root / "VOCdevkit/VOC2012")) == 1


def test_palette_is_that_of_the_devkit() -> None:
    """Its colours by name, as the devkit's page shows them."""
    shown = {"background": (0, 0, 0), "bicycle": (0, 128, 0), "person": (192, 128, 128), "tvmonitor": (0, 64, 128)}
    colours = dict(zip(VOC2012.class_names, VOC2012.palette, strict=True))
    assert {name: colours[name] for name in shown} == shown
    assert len(set(VOC2012.palette)) == 21


def test_trainaug_is_voc_and_sbd_without_val(root: Path) -> None:
    sbd = root / "benchmark_RELEASE/dataset"
    (sbd / "cls").mkdir(parents=True)
    for k, name in enumerate("abcd"):
        savemat(sbd / f"cls/{name}.mat", {"GTcls": {"Segmentation": ids(10 + k, 0, 21), "Boundaries": 0}})
    (sbd / "train.txt").write_text("a\nc\n")
    (sbd / "val.txt").write_text("b\nd\n")
    data = create("voc2012", root=root, split="trainaug", sbd=root)
    assert [data.name_of(k) for k in range(len(data))] == ["a", "c", "d"]  # b is of VOC's val
    assert (data[0].label[0] == 255).all()  # VOC's own label comes before SBD's
    np.testing.assert_array_equal(data[2].label, ids(13, 0, 21))
    assert len(create("voc2012", root=root, split="val", sbd=root)) == 1


def test_trainaug_as_it_is_passed_on(root: Path) -> None:
    save_voc_label(root / "VOCdevkit/VOC2012/SegmentationClassAug/e.png", np.full((H, W), 20))
    (root / LISTS / "trainaug.txt").write_text("a\ne\n")
    data = create("voc2012", root=root, split="trainaug")
    assert (data[0].label[0] == 255).all()
    assert (data[1].label == 20).all()


def test_mistakes_are_one_line(root: Path) -> None:
    with pytest.raises(UserError, match=r"has no split 'test'; there is: train, val, trainval, trainaug"):
        create("voc2012", root=root, split="test")
    with pytest.raises(UserError, match=r"cannot read the list of the split, .*trainval\.txt \(No such file"):
        create("voc2012", root=root, split="trainval")
    with pytest.raises(UserError, match=r"has no JPEGImages .*it is in .*VOC2012: give that as the root"):
        create("voc2012", root=root / "VOCdevkit/VOC2012/JPEGImages")
    sbd = root / "sbd"
    (sbd / "cls").mkdir(parents=True)
    for name in ("train", "val"):
        (sbd / f"{name}.txt").write_text("c\n")
    (sbd / "cls/c.mat").write_bytes(b"no MATLAB file")
    data = create("voc2012", root=root, split="trainaug", sbd=sbd)
    with pytest.raises(UserError, match=r"c\.mat: cannot be read as label"):
        data[1]
    savemat(sbd / "cls/c.mat", {"other": 1})
    with pytest.raises(UserError, match=r"c\.mat holds no map of ids in GTcls\.Segmentation"):
        data[1]
    (root / LISTS / "val.txt").write_text("z\ny\n")
    with pytest.raises(UserError, match=r"'z' is listed \(and 1 more\), but .*JPEGImages"):
        create("voc2012", root=root, split="val")
    (root / LISTS / "val.txt").write_text("b\nb\n")
    with pytest.raises(UserError, match=r"val\.txt lists 'b' twice"):
        create("voc2012", root=root, split="val")
