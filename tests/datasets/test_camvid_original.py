"""CamVid as its authors distribute it: colours, SegNet's grouping and split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_trees import H, W, save_image
from PIL import Image

from segkd.datasets import create
from segkd.datasets.camvid_original import GROUPS, TABLE, CamVid32, split_of
from segkd.errors import UserError

#: some rows of label_colors.txt, with SegNet's class (None: Void)
SHOWN = {"Sky": ((128, 128, 128), "sky"), "Tunnel": ((64, 0, 64), "building"), "LaneMkgsDriv": ((128, 0, 192), "road"),
         "TrafficLight": ((0, 64, 64), "sign symbol"), "Truck_Bus": ((192, 128, 192), "car"),
         "Animal": ((64, 128, 64), "pedestrian"), "MotorcycleScooter": ((192, 0, 192), "bicyclist"),
         "Void": ((0, 0, 0), None)}  # fmt: skip


def save_frame(root: Path, name: str, colours: np.ndarray) -> None:
    save_image(root / f"701_StillsRaw_full/{name}.png")
    file = root / f"LabeledApproved_full/{name}_L.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours.astype(np.uint8)).save(file)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = np.array([colour for colour, _ in SHOWN.values()])
    save_frame(tmp_path, "0001TP_006690", rows[np.resize(np.arange(len(rows)), (H, W))])
    save_frame(tmp_path, "0016E5_07959", np.zeros((H, W, 3)))
    save_frame(tmp_path, "Seq05VD_f00000", np.zeros((H, W, 3)))
    return tmp_path


def test_colours_become_the_authors_classes_or_segnets(root: Path) -> None:
    row = np.resize(np.arange(len(SHOWN)), (H, W))
    fine, coarse = create("camvid32", root=root), create("camvid", root=root)
    assert (len(fine), len(coarse), fine.num_classes, coarse.num_classes) == (1, 1, 31, 11)
    for k, (name, (colour, group)) in enumerate(SHOWN.items()):
        known = name in CamVid32.class_names
        assert (fine[0].label[row == k] == (CamVid32.class_names.index(name) if known else 255)).all()
        assert not known or CamVid32.palette[CamVid32.class_names.index(name)] == colour
        assert (coarse[0].label[row == k] == (255 if group is None else coarse.class_names.index(group))).all()


def test_every_class_lies_in_one_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(TABLE.names)
    assert len(set(TABLE.palette)) == 31


def test_frames_are_split_as_segnet_did(root: Path, camvid_root: Path) -> None:
    for split in ("train", "val", "test"):
        names = [file.stem for file in (camvid_root / "images" / split).iterdir()]
        assert {split_of(Path("x"), name) for name in names} == {split}
    assert [len(create("camvid32", root=root, split=split)) for split in ("train", "val", "test", "trainval")] == [
        1,
        1,
        1,
        2,
    ]


def test_colours_and_names_of_nothing_are_told(root: Path) -> None:
    save_frame(root, "0001TP_006690", np.full((H, W, 3), 7))
    with pytest.raises(UserError, match=r"0001TP_006690_L\.png: label colour 7,7,7 \(2240 pixels\)"):
        create("camvid", root=root)[0]
    save_image(root / "701_StillsRaw_full/mine.png")
    with pytest.raises(UserError, match=r"mine\.png: no name of a CamVid frame"):
        create("camvid32", root=root)
