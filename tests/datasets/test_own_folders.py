"""Where one's own images and labels may lie: layouts of people and tools, globs, lists, names with suffixes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import own_trees
import pytest
from dataset_trees import ids, save_image, save_label

from segkd.datasets import create
from segkd.errors import UserError
from segkd.workbench.making import data_section

NAMES = ("ground", "weed", "crop")
SEEDS = (0, 1, 2, 0, 1, 0)  # of the labels of train, val and test


def pair(image: Path, label: Path, seed: int) -> None:
    save_image(image, seed)
    save_label(label, ids(seed, 0, 3))


def by_kind(root: Path) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for k in range(count):
            pair(root / f"images/{split}/a/{k}.jpg", root / f"labels/{split}/a/{k}.png", k)
    (root / "classes.txt").write_text("\n".join(NAMES))


def by_split(root: Path) -> None:
    for split, count in (("training", 3), ("validation", 2), ("testing", 1)):
        for k in range(count):
            pair(root / f"{split}/img/{k}.png", root / f"{split}/Masks/{k}.png", k)
    (root / "classes.json").write_text(json.dumps({"0": "ground", "1": "weed", "2": "crop"}))


def roboflow(root: Path) -> None:
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        for k in range(count):
            pair(root / split / f"{k}_jpg.rf.{k:032x}.jpg", root / split / f"{k}_jpg.rf.{k:032x}_mask.png", k)
        (root / split / "_classes.csv").write_text("Pixel Value, Class\n0, ground\n1, weed\n2, crop\n")


def voc(root: Path) -> None:
    for k in range(6):
        pair(root / f"JPEGImages/x {k}.jpg", root / f"SegmentationClass/x {k}.png", SEEDS[k])
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for split, own in (("train", range(3)), ("val", (3, 4)), ("test", (5,))):
        (lists / f"{split}.txt").write_text("".join(f"x {k}\t\n" for k in own))
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nground:1,2,3::\nweed:4,5,6::\ncrop:7,8,9::\n")


def listed(root: Path) -> None:
    lines = ["image,label,split"]
    for k, split in enumerate(("train", "train", "train", "val", "val", "test")):
        pair(root / f"here/{k}.jpg", root / f"there/m{k}.png", SEEDS[k])
        lines.append(f"here/{k}.jpg,there/m{k}.png,{split}")
    (root / "pairs.csv").write_text("\n".join(lines) + "\n")
    (root / "classes.yaml").write_text("names: [ground, weed, crop]\n")


@pytest.mark.parametrize("layout", [by_kind, by_split, roboflow, voc, listed])
def test_layouts_with_splits(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    layout(tmp_path)
    sizes = {}
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        data = create("folder", root=tmp_path, split=split)
        sizes[split] = len(data)
        assert tuple(data.class_names) == NAMES
        assert len(data) == count
        for k in range(count):
            np.testing.assert_array_equal(data[k].label, ids(k, 0, 3))
    assert len(create("folder", root=tmp_path)) == 6
    section = data_section(str(tmp_path))
    assert [split for split in ("train", "val", "test") if split in section] == ["train", "val", "test"]
    with pytest.raises(UserError, match="has a validation split of its own; leave out val"):
        create("folder", root=tmp_path, split="val", val=0.5)


def test_layouts_of_annotation_files_by_split(tmp_path: Path) -> None:
    for split in ("train", "val"):
        own_trees.write(tmp_path / split, "coco_polygons", 4)
        (tmp_path / f"coco/images/{split}2017").parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(tmp_path / split / "images", tmp_path / f"coco/images/{split}2017")
        (tmp_path / "coco/annotations").mkdir(exist_ok=True)
        shutil.copy(tmp_path / split / "annotations.json", tmp_path / f"coco/annotations/instances_{split}2017.json")
        (tmp_path / f"coco/annotations/captions_{split}2017.json").write_text('{"images": [], "annotations": []}')
        own_trees.write(tmp_path / "drawn", "yolo", 4)
        for kind in ("images", "labels"):
            shutil.copytree(tmp_path / "drawn" / kind, tmp_path / f"yolo/{kind}/{split}")
        shutil.copy(tmp_path / "drawn/data.yaml", tmp_path / "yolo")
    for kind in ("coco", "yolo"):
        for split in ("train", "val"):
            data = create("folder", root=tmp_path / kind, split=split)
            assert (len(data), tuple(data.class_names)) == (4, own_trees.NAMES)
            np.testing.assert_array_equal(data[2].label, own_trees.truth(own_trees.scene(2)))


NAMED = [  # image, label
    ("deep/{}.jpg", "deep/{}.png"),
    ("{}.jpg", "other/{}.png"),
    ("{}.png", "{}_mask.png"),
    ("ulm/{}_leftImg8bit.png", "ulm/{}_gtFine_labelIds.png"),
    ("image_{}.jpg", "mask_{}.png"),
    ("photo{}.jpg", "label{}.tif"),
]


@pytest.mark.parametrize(("image", "label"), NAMED)
def test_names_meet(tmp_path: Path, image: str, label: str) -> None:
    for k, word in enumerate(("001", "002", "010")):
        pair(tmp_path / "in" / image.format(word), tmp_path / "out" / label.format(word), k)
    data = create("folder", images=tmp_path / "in", labels=tmp_path / "out", class_names=NAMES)
    assert len(data) == 3
    for k in range(3):
        np.testing.assert_array_equal(data[k].label, ids(k, 0, 3))


def test_a_suffix_chooses_among_labels(tmp_path: Path) -> None:
    for k in range(2):
        pair(tmp_path / f"in/{k}_leftImg8bit.png", tmp_path / f"out/{k}_gtFine_labelIds.png", k)
        save_image(tmp_path / f"out/{k}_gtFine_color.png")
    words = dict(images=tmp_path / "in", labels=tmp_path / "out", class_names=NAMES)
    with pytest.raises(UserError, match=r"none of the 2 images .* called like '0_leftImg8bit'.*say by suffix"):
        create("folder", **words)
    assert len(create("folder", **words, suffix="_gtFine_labelIds")) == 2
    with pytest.raises(UserError, match=r"no label's name ends in '_mask': they are called like '0_gtFine_color'"):
        create("folder", **words, suffix="_mask")


def test_globs(tmp_path: Path) -> None:
    for k in range(3):
        pair(tmp_path / f"d/clip{k % 2}/rgb/{k}_rgb.png", tmp_path / f"d/clip{k % 2}/seg/{k}_seg.png", k)
    words = dict(class_names=NAMES, labels=f"{tmp_path}/d/*/seg/*_seg.png")
    data = create("folder", images=f"{tmp_path}/d/**/*_rgb.png", **words)
    assert len(data) == 3
    with pytest.raises(UserError, match=r"no file matches .*_ir\.png"):
        create("folder", images=f"{tmp_path}/d/*/rgb/*_ir.png", **words)


def test_lists_of_pairs_and_of_names(tmp_path: Path) -> None:
    for k in range(4):
        pair(tmp_path / f"in/{k}.jpg", tmp_path / f"out/{k}.png", k)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("../in/0.jpg ../out/0.png\n/in/2.jpg /out/2.png\n")
    (lists / "val.txt").write_text("in/1.jpg out/1.png\n")
    words = dict(class_names=NAMES, root=tmp_path, lists=lists)
    for split, own in (("train", (0, 2)), ("val", (1,))):
        data = create("folder", **words | {"images": "in", "labels": "out"}, split=split)
        assert [data.name_of(k)[-1] for k in range(len(data))] == [str(k) for k in own]
        for place, k in enumerate(own):
            np.testing.assert_array_equal(data[place].label, ids(k, 0, 3))
    (tmp_path / "names.txt").write_text("2\n3.jpg\n\n")
    words = dict(images=tmp_path / "in", labels=tmp_path / "out", class_names=NAMES)
    data = create("folder", **words, lists=tmp_path / "names.txt")
    assert [data.name_of(k) for k in range(2)] == ["2", "3"]
    assert len(create("folder", **words, lists=tmp_path / "names.txt", split="val", val=0.5)) == 1


BAD_LISTS = [
    ("names.txt", "9\n", r"names\.txt, line 1: no image is called '9' among those of the folder"),
    ("names.txt", "1\n2\n1\n", r"names\.txt, line 3: 1 is listed in line 1 already"),
    ("names.txt", "a b c\n", r"names\.txt, line 1: 3 words; a line is an image"),
    ("names.txt", "\n", r"names\.txt lists no image"),
    ("names.txt", "in/0.jpg out/9.png\n", r"names\.txt, line 1: no such file: out/9\.png"),
    ("names.txt", "in/0.jpg out/0.png\nin/1.jpg\n", r"names\.txt, line 2: no label, where other lines have one"),
    ("pairs.csv", "a,b\n1,2\n", r"pairs\.csv: the first line must name the columns: image,label"),
    ("pairs.csv", "image,label,split\nin/0.jpg,out/0.png,dev ops\n", r"line 2: it must have an image, and a split"),
    ("pairs.csv", "image,label\nin/0.jpg\n", r"pairs\.csv, line 2: 1 columns, the first line has 2"),
    ("none.txt", None, r"list not found: .*none\.txt"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), BAD_LISTS)
def test_bad_lists(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    for k in range(3):
        pair(tmp_path / f"in/{k}.jpg", tmp_path / f"out/{k}.png", k)
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        create("folder", root=tmp_path, images="in", labels="out", class_names=NAMES, lists=name)


def test_an_image_is_in_one_list_alone(tmp_path: Path) -> None:
    by_split(tmp_path / "d")
    pair(tmp_path / "in/0.jpg", tmp_path / "out/0.png", 0)
    (tmp_path / "lists").mkdir()
    for split in ("train", "val"):
        (tmp_path / f"lists/{split}.txt").write_text("0\n")
    with pytest.raises(UserError, match=r"val\.txt, line 1: 0 is in .*train\.txt, too; an image may be in one split"):
        create("folder", root=tmp_path, images="in", labels="out", class_names=NAMES, lists="lists", split="val")
    with pytest.raises(UserError, match=r"has splits by folders and by .*lists"):
        create("folder", root=tmp_path / "d", lists=tmp_path / "lists")


def test_nothing_that_is_known(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="holds no images with labels that are known by their names; it may hold images/"
    ):
        create("folder", root=tmp_path)
    with pytest.raises(UserError, match="root folder not found"):
        create("folder", root=tmp_path / "none")
    with pytest.raises(UserError, match="name the folder that holds it"):
        create("folder", class_names=NAMES)
    by_kind(tmp_path)
    with pytest.raises(UserError, match="split must be 'train' or 'val'"):
        create("folder", root=tmp_path, split="dev")
    shutil.rmtree(tmp_path / "images/test")
    with pytest.raises(UserError, match=r"has no split 'test' \(there is: train, val\)"):
        create("folder", root=tmp_path, split="test")
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"what are the classes called\? .*labels/train holds the ids 0, 1, 2"):
        create("folder", root=tmp_path, split="train")


def test_validation_is_drawn_from_a_training_split_without_one(tmp_path: Path) -> None:
    """No image is trained with and scored on, and the test split stays whole."""
    by_kind(tmp_path)
    shutil.rmtree(tmp_path / "images/val")
    shutil.rmtree(tmp_path / "labels/val")
    splits = {split: create("folder", root=tmp_path, split=split, val=0.4) for split in ("train", "val", "test")}
    names = {split: {data.pairs[k].image for k in range(len(data))} for split, data in splits.items()}
    assert {split: len(own) for split, own in names.items()} == {"train": 2, "val": 1, "test": 1}
    assert not names["train"] & names["val"]
    assert {file.parent.parent.name for file in names["val"]} == {"train"}
    with pytest.raises(UserError, match="all 3 images are of one sequence by group='folder'"):
        create("folder", root=tmp_path, split="val", group="folder")
