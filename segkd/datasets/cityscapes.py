"""Cityscapes: street scenes of 2048 x 1024, 5,000 finely and 20,000 coarsely labelled (Cordts et al., 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from segkd.datasets.base import DATASETS, IGNORE
from segkd.datasets.files import FilePairs, LabelTable, check_split, list_files
from segkd.datasets.layout import find_root
from segkd.errors import UserError

SPLITS = ("train", "val", "test")
COARSE_SPLITS = ("train", "train_extra", "val")
# The official ids (labelIds) of the 19 classes that are trained and evaluated, in train-id order.
TRAINED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
INSTANCES = 1000  # an object is stored as label id * 1000 + its number
LAST_ID = 33  # of 0..33; the licence plate has -1, which 8 bits store as 255
KINDS = ("labelIds", "labelTrainIds")
FINE, COARSE = "gtFine", "gtCoarse"
Files = dict[str, Path]


@DATASETS.register("cityscapes")
class Cityscapes(FilePairs):
    """Cityscapes as distributed: leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip unpacked into one folder.

    ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` with ``gtFine/SPLIT/CITY/*_gtFine_labelIds.png``; the ids 0..33 become
    the 19 train ids while loading; all others are ignored. The ``*_labelTrainIds.png`` of cityscapesScripts are read
    where they are named, or alone.

    Args:
        root: folder that holds ``leftImg8bit`` and ``gtFine``.
        split: "train" (2975), "val" (500), "test" (1525; its public labels hold no class); of the coarse labels
            "train" (2975), "train_extra" (19998), "val" (500).
        coarse: read ``gtCoarse`` (gtCoarse.zip, leftImg8bit_trainextra.zip).
        ids: "labelIds" or "labelTrainIds": which files are read; by default the first of these that are there.
        check: see ``FilePairs``.
    """

    splits = ("train", "val")
    withheld = ("test",)
    counts = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
    licence = "https://www.cityscapes-dataset.com/license/"
    class_names = (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    )  # fmt: skip
    palette = (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
        (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
        (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    )  # fmt: skip
    categories = {
        "flat": ("road", "sidewalk"),
        "construction": ("building", "wall", "fence"),
        "object": ("pole", "traffic light", "traffic sign"),
        "nature": ("vegetation", "terrain"),
        "sky": ("sky",),
        "human": ("person", "rider"),
        "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
    }
    # Mean size in pixels of an instance in the training labels, as the official evaluation has it.
    instance_sizes = {
        "person": 3462.4756337644, "rider": 3930.4788056518, "car": 12794.0202738185, "truck": 27855.1264367816,
        "bus": 35732.1511111111, "train": 67583.7075812274, "motorcycle": 6298.7200839748, "bicycle": 4672.3249222261,
    }  # fmt: skip

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        check: bool = True,
        coarse: bool = False,
        ids: str | None = None,
    ) -> None:
        annotations = COARSE if coarse else FINE
        source = f"Cityscapes{', coarse,' if coarse else ''} split {split!r}"
        check_split(split, COARSE_SPLITS if coarse else SPLITS, "Cityscapes")
        if ids is not None and ids not in KINDS:
            raise UserError(f"Cityscapes: ids is 'labelIds' or 'labelTrainIds', got {ids!r}")
        folder = find_root(root, source, ("leftImg8bit", annotations))
        images = _cities(folder / "leftImg8bit" / split, ("_leftImg8bit",))[1]
        kind, labels = _cities(folder / annotations / split, [f"_{annotations}_{k}" for k in ([ids] if ids else KINDS)])
        super().__init__(images, labels, _table(kind.rpartition("_")[2]), f"{source} in {folder}", check)

    def instances_of(self, index: int) -> NDArray[np.int32]:
        """The objects (H, W) at ``index``: train id * 1000 + number; -1 where there is none, or a group of some."""
        label = self.pairs[index].label
        file = label.with_name(f"{label.stem.rpartition('_')[0]}_instanceIds.png")
        if not file.is_file():
            raise UserError(f"{label}: no instance file {file.name} beside it, which instance-weighted scores need")
        stored = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if stored is None or stored.ndim != 2:
            raise UserError(f"{file} is no 16-bit PNG of the official instance ids")
        ids = np.full(256, -1, np.int32)
        ids[list(TRAINED_IDS)] = np.arange(len(TRAINED_IDS))
        found = ids[np.minimum(stored // INSTANCES, 255)]
        objects: NDArray[np.int32] = np.where(found < 0, -1, found * INSTANCES + stored % INSTANCES).astype(np.int32)
        return objects


def _table(kind: str) -> LabelTable:
    if kind == "labelTrainIds":
        return LabelTable({k: k for k in range(19)} | {IGNORE: IGNORE}, "the train ids 0..18 and 255 for void")
    ids = dict.fromkeys([*range(LAST_ID + 1), 255], IGNORE) | {stored: k for k, stored in enumerate(TRAINED_IDS)}
    return LabelTable(ids, "the official label ids 0..33 (255 for -1), not train ids or colours")


def _cities(folder: Path, endings: Sequence[str]) -> tuple[str, Files]:
    """The first of some endings that files have, and "CITY/FRAME" -> file, over the city folders of one split."""
    if not folder.is_dir():
        raise UserError(f"Cityscapes: folder not found: {folder}")
    cities = sorted(city for city in folder.iterdir() if city.is_dir() and not city.name.startswith("."))
    for ending in endings:
        found = {f"{c.name}/{name}": file for c in cities for name, file in list_files(c, (".png",), ending).items()}
        if found:
            break
    return ending, found
