"""Small trees in the layouts of CamVid, Cityscapes and ADE20K, written from the synthetic streets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from segkd.datasets.synthetic import SyntheticStreets

# The synthetic classes (those of CamVid) as the label ids of Cityscapes and of ADE20K, from their official tables.
CITYSCAPES = {"sky": 23, "building": 11, "pole": 17, "road": 7, "pavement": 8, "tree": 21, "sign": 20, "fence": 13,
              "car": 26, "pedestrian": 24, "bicyclist": 33}  # fmt: skip
ADE20K = {"sky": 3, "building": 2, "pole": 94, "road": 7, "pavement": 12, "tree": 5, "sign": 44, "fence": 33,
          "car": 21, "pedestrian": 13, "bicyclist": 128}  # fmt: skip
SCENES = {"train": 3, "val": 2}


def write_pair(split: str, k: int, image_file: Path, label_file: Path, ids: Mapping[str, int]) -> None:
    """Scene ``k`` with the label ids of another data set."""
    image, label = SyntheticStreets(length=k + 1, size=(64, 128), split=split)[k]
    table = np.zeros(256, np.uint8)  # void is 0 in both
    for number, name in enumerate(SyntheticStreets.class_names):
        table[number] = ids[name]
    for file, content in ((image_file, cv2.cvtColor(image, cv2.COLOR_RGB2BGR)), (label_file, table[label])):
        file.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(file), content)


def write_cityscapes(root: Path) -> Path:
    for split, count in SCENES.items():
        for k in range(count):
            city, stem = ("aachen", "bochum")[k % 2], f"{k:06d}_000019"
            image = root / "leftImg8bit" / split / city / f"{city}_{stem}_leftImg8bit.png"
            label = root / "gtFine" / split / city / f"{city}_{stem}_gtFine_labelIds.png"
            write_pair(split, k, image, label, CITYSCAPES)
    return root


def write_ade20k(root: Path) -> Path:
    for split, count in SCENES.items():
        folder = {"train": "training", "val": "validation"}[split]
        for k in range(count):
            name = f"ADE_{split}_{k:08d}"
            base = root / "ADEChallengeData2016"
            files = (base / "images" / folder / f"{name}.jpg", base / "annotations" / folder / f"{name}.png")
            write_pair(split, k, *files, ADE20K)
    return root


def write_camvid(root: Path, counts: Mapping[str, int], size: tuple[int, int]) -> Path:
    """Synthetic scenes, whose 11 classes are CamVid's."""
    for split, count in counts.items():
        scenes = SyntheticStreets(length=count, size=size, split=split)
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for k in range(count):
            image, label = scenes[k]
            cv2.imwrite(str(root / "images" / split / f"{k}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            cv2.imwrite(str(root / "labels" / split / f"{k}.png"), label)
    return root
