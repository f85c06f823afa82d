"""COCO-Stuff 164k: COCO 2017 with 80 things and 91 kinds of stuff (Caesar et al., 2018)."""

from __future__ import annotations

from pathlib import Path

from segkd.datasets.base import DATASETS, IGNORE
from segkd.datasets.files import FilePairs, LabelTable, check_split, list_files
from segkd.datasets.layout import find_root
from segkd.datasets.tables import read_table

SPLITS = ("train", "val")
CONVERTED = "_labelTrainIds"  # of mmsegmentation's converter, beside the files as distributed
TABLE = read_table("coco_stuff")


@DATASETS.register("coco_stuff")
class COCOStuff(FilePairs):
    """COCO-Stuff as its page says to unpack it: train2017.zip, val2017.zip, stuffthingmaps_trainval2017.zip.

    ``images/{train2017,val2017}/*.jpg`` with ``annotations/{train2017,val2017}/*.png``: of the ids 0..181, the 171 that
    occur become the classes 0..170 while loading; 255 is ignored.

    Args:
        root: folder that holds ``images`` and ``annotations``, or the ``dataset`` that holds them.
        split: "train" (118,287) or "val" (5,000).
        check: see ``FilePairs``.
    """

    splits = ("train", "val")
    withheld = ("test",)
    counts = {"train": 118287, "val": 5000}
    licence = "https://github.com/nightrome/cocostuff#licensing"
    class_names = TABLE.names
    palette = TABLE.palette

    def __init__(self, root: str | Path, split: str = "train", check: bool = True) -> None:
        source = f"COCO-Stuff split {split!r}"
        check_split(split, SPLITS, "COCO-Stuff")
        folder = find_root(root, source, ("images", "annotations"), ("dataset",))
        images = list_files(folder / "images" / f"{split}2017", (".jpg",))
        labels = list_files(folder / "annotations" / f"{split}2017", (".png",))
        labels = {name: file for name, file in labels.items() if not name.endswith(CONVERTED)}
        ids = {IGNORE: IGNORE} | {stored: k for k, stored in enumerate(TABLE.ids)}
        right = "COCO-Stuff's ids, 0..181 without those that never occur, and 255 for void"
        super().__init__(images, labels, LabelTable(ids, right), f"{source} in {folder}", check)
