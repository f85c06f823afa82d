"""Data sets of files, on small trees in their layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_trees import H, W, ids, own_folder, plain_camvid, save_frame, save_image, save_label, segnet_camvid
from PIL import Image

from segkd.datasets import create
from segkd.datasets.palettes import spread_palette
from segkd.errors import UserError


def test_camvid_plain_layout(tmp_path: Path) -> None:
    root = plain_camvid(tmp_path)
    label = ids(1, 0, 11)
    label[:3] = 255
    save_label(root / "labels" / "train" / "train_b.png", label)
    data = create("camvid", root=root, split="train")
    assert len(data) == 3
    assert data.num_classes == 11 == len(data.palette)
    image, read = data[1]
    assert image.dtype == read.dtype == np.uint8
    np.testing.assert_allclose(image.astype(int), Image.open(root / "images/train/train_b.jpg"), atol=3)
    np.testing.assert_array_equal(read, label)
    assert data.name_of(1) == "train_b"
    assert len(create("camvid", root=root, split="trainval")) == 6


def test_camvid_segnet_layout_maps_11_to_void(tmp_path: Path) -> None:
    data = create("camvid", root=segnet_camvid(tmp_path), split="val")
    stored = ids(2, 0, 12)
    assert (stored == 11).any()
    np.testing.assert_array_equal(data[2].label, np.where(stored == 11, 255, stored))


def test_camvid_segnet_list_selects_the_pairs(tmp_path: Path) -> None:
    root = segnet_camvid(tmp_path)
    line = "/SegNet/CamVid/train/train{0}.png /SegNet/CamVid/trainannot/train{0}.png\n"
    (root / "train.txt").write_text(line.format(0) + line.format(2) + "\n")
    data = create("camvid", root=root, split="train")
    assert [data.name_of(i) for i in range(len(data))] == ["train0", "train2"]
    assert len(create("camvid", root=root, split="trainval")) == 5
    (root / "train.txt").write_text(line.format(9))
    with pytest.raises(UserError, match=r"train\.txt lists 'train9'"):
        create("camvid", root=root, split="train")


def test_camvid_names_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither images/ and labels/ .* nor train/ and trainannot/"):
        create("camvid", root=tmp_path)


def test_camvid_real(camvid_root: Path) -> None:
    sizes = {
        split: len(create("camvid", root=camvid_root, split=split)) for split in ("train", "val", "test", "trainval")
    }
    assert sizes == {"train": 367, "val": 101, "test": 233, "trainval": 468}
    data = create("camvid", root=camvid_root, split="val")
    image, label = data[50]
    assert image.shape == (360, 480, 3)
    assert set(np.unique(label)) <= {*range(11), 255}
    # Road is grey and below, sky bright and above: a swapped class order or colour order would not pass.
    rows = np.broadcast_to(np.arange(360)[:, None], label.shape)
    assert rows[label == 3].mean() > 240 > 120 > rows[label == 0].mean()
    assert image[label == 0].mean() > image[label == 3].mean()


def test_cityscapes_maps_label_ids(tmp_path: Path) -> None:
    every = np.resize(np.array([*range(34), 255], dtype=np.uint8), (H, W))
    save_frame(tmp_path, "ulm", every)
    save_frame(tmp_path, "aachen", every)
    data = create("cityscapes", root=tmp_path, split="train")
    assert [data.name_of(i) for i in range(2)] == ["aachen/aachen_000000_000019", "ulm/ulm_000000_000019"]
    # By name: what the official label table says about each evaluated class.
    official = {
        "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
        "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26,
        "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
    }  # fmt: skip
    assert sorted(official) == sorted(data.class_names)
    label = data[0].label
    for name, stored in official.items():
        assert (label[every == stored] == data.class_names.index(name)).all()
    ignored = ~np.isin(every, list(official.values()))
    assert (label[ignored] == 255).all()
    assert set(every[ignored].tolist()) == {*range(7), 9, 10, 14, 15, 16, 18, 29, 30, 255}


def test_cityscapes_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="root folder not found"):
        create("cityscapes", root=tmp_path / "none")
    with pytest.raises(UserError, match=r"has no leftImg8bit \(the root holds leftImg8bit/ and gtFine/\)"):
        create("cityscapes", root=tmp_path)
    save_frame(tmp_path, "ulm", np.full((H, W), 34, np.uint8))
    with pytest.raises(UserError, match=r"ulm_.*labelIds\.png: label value 34 \(2240 pixels\).*label ids 0\.\.33"):
        create("cityscapes", root=tmp_path)[0]
    with pytest.raises(UserError, match="no split 'valid'; there is: train, val, test"):
        create("cityscapes", root=tmp_path, split="valid")
    (tmp_path / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"ulm_000000_000019_leftImg8bit\.png: no label file"):
        create("cityscapes", root=tmp_path)


@pytest.mark.parametrize("inside", [True, False])
def test_ade20k(tmp_path: Path, inside: bool) -> None:
    root = tmp_path / "ADEChallengeData2016"
    stored = np.resize(np.arange(151, dtype=np.uint8), (H, W))
    save_image(root / "images/validation/ADE_val_00000001.jpg")
    save_label(root / "annotations/validation/ADE_val_00000001.png", stored)
    data = create("ade20k", root=root if inside else tmp_path, split="val")
    np.testing.assert_array_equal(data[0].label, np.where(stored == 0, 255, stored.astype(int) - 1))
    assert data.num_classes == 150 == len(set(data.class_names)) == len(data.palette)
    # Anchors of the published list, counted from 1 as its rows are.
    published = {
        1: "wall",
        13: "person",
        21: "car",
        46: "counter",
        90: "television receiver",
        117: "minibike",
        150: "flag",
    }
    assert {row: data.class_names[row - 1] for row in published} == published


def test_ade20k_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds images/ and annotations/"):
        create("ade20k", root=tmp_path)
    for kind in ("images", "annotations"):
        (tmp_path / kind / "training").mkdir(parents=True)
    with pytest.raises(UserError, match=r"ADE20K split 'train' .* is empty"):
        create("ade20k", root=tmp_path)


def test_folder(tmp_path: Path) -> None:
    stored = ids(0, 0, 4)
    arguments = own_folder(tmp_path, stored)
    data = create("folder", **arguments, ignore=3)
    np.testing.assert_array_equal(data[0].label, np.where(stored == 3, 255, stored))
    for label_map in ({0: 2, 1: 255, 2: 0, 3: 1}, {"0": 2, "1": 255, "2": 0, "3": 1}):
        mapped = create("folder", **arguments, label_map=label_map)
        np.testing.assert_array_equal(mapped[0].label, np.array([2, 255, 0, 1])[stored])
    masks = own_folder(tmp_path / "black_and_white", np.where(stored == 2, 255, 0).astype(np.uint8))  # black and white
    masks |= dict(class_names=("ground", "thing"))
    black_and_white = create("folder", **masks, label_map={0: 0, 255: 1})
    np.testing.assert_array_equal(black_and_white[0].label, (stored == 2).astype(np.uint8))
    np.testing.assert_array_equal(create("folder", **masks, ignore=255)[0].label, np.where(stored == 2, 255, 0))
    for names in (("ground", "thing"), ("thing",)):
        with pytest.raises(UserError, match=r"0 and 255 alone. If 255 is a class, .*label_map=\{0: 0, 255: 1\}"):
            create("folder", **masks | {"class_names": names})
    assert len(set(data.palette)) == 3
    assert create("folder", **arguments, palette=[(1, 2, 3)] * 3).palette == ((1, 2, 3),) * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "label value 3 "),
        ({"label_map": {0: 0, 1: 1}}, r"label values 2, 3 .* ids of its label_map \(0, 1, 255\)"),
        ({"label_map": {"road": 0}}, "label_map must map integers"),
        ({"label_map": {0: 3}}, "label_map 0 -> 3: there are classes 0..2"),
        ({"label_map": {0: 1, 1: 0}, "ignore": 0}, "label_map 0 -> 1, and ignore=0: a stored id is a class or void"),
        ({"palette": [(0, 0, 0)]}, "palette needs one"),
        ({"class_names": ()}, "class_names holds no class names"),
        ({"ignore": -1}, "ignore must be"),
        ({"labels": "nowhere"}, "labels not found: nowhere"),
    ],
)
def test_folder_errors(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create("folder", **(own_folder(tmp_path, ids(0, 0, 4)) | changes))[0]


def test_spread_palette_colours_differ() -> None:
    colours = np.array(spread_palette(254))
    apart = np.abs(colours[:, None] - colours[None]).sum(-1)
    assert apart[~np.eye(254, dtype=bool)].min() >= 36
    assert 0 <= colours.min() <= colours.max() <= 255
