"""BDD100K, semantic segmentation: 10,000 frames of 1280 x 720 from dash cameras (Yu et al., 2020)."""

from __future__ import annotations

from pathlib import Path

from segkd.datasets.base import DATASETS
from segkd.datasets.cityscapes import Cityscapes
from segkd.datasets.files import FilePairs, check_split, identity_table, list_files
from segkd.datasets.layout import find_root

SPLITS = ("train", "val")
IMAGES, MASKS = "images/10k", "labels/sem_seg/masks"


@DATASETS.register("bdd100k")
class BDD100K(FilePairs):
    """BDD100K as distributed: the 10K images and the semantic segmentation labels, unpacked into one folder.

    ``images/10k/SPLIT/*.jpg`` with ``labels/sem_seg/masks/SPLIT/*.png``: the 19 train ids of Cityscapes, 255 = void.

    Args:
        root: the folder ``bdd100k``, or the one that holds it.
        split: "train" (7,000) or "val" (1,000).
        check: see ``FilePairs``.
    """

    splits = ("train", "val")
    withheld = ("test",)
    counts = {"train": 7000, "val": 1000}
    licence = "https://doc.bdd100k.com/license.html"
    class_names = Cityscapes.class_names
    palette = Cityscapes.palette

    def __init__(self, root: str | Path, split: str = "train", check: bool = True) -> None:
        source = f"BDD100K split {split!r}"
        check_split(split, SPLITS, "BDD100K")
        folder = find_root(root, source, (IMAGES, MASKS), ("bdd100k",))
        images = list_files(folder / IMAGES / split, (".jpg",))
        labels = list_files(folder / MASKS / split, (".png",))
        super().__init__(images, labels, identity_table(19), f"{source} in {folder}", check)
