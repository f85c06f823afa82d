"""ADE20K: pictures of all kinds of places, the 150 classes of scene parsing (Zhou et al., 2017)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segkd.datasets.base import DATASETS, IGNORE, Array
from segkd.datasets.files import FilePairs, LabelReader, LabelTable, Pair, check_split, list_files, walk_files
from segkd.datasets.image_files import read_image
from segkd.datasets.layout import find_root
from segkd.datasets.tables import read_ids, read_table
from segkd.errors import UserError

SPLITS = ("train", "val")
FOLDERS = {"train": "training", "val": "validation"}
ARCHIVE = "ADEChallengeData2016"
FULL_ARCHIVE = "ADE20K_2021_17_01"
LAST_INDEX = 1 << 13  # above any index of the full release
TABLE = read_table("ade20k")


@DATASETS.register("ade20k")
class ADE20K(FilePairs):
    """ADE20K as of the scene parsing challenge of 2016: ADEChallengeData2016.zip unpacked.

    ``images/{training,validation}/*.jpg`` with ``annotations/{training,validation}/*.png``: stored 0 = other objects,
    ignored; 1..150 become the classes 0..149. Pictures differ in size.

    Args:
        root: the folder ``ADEChallengeData2016``, or the one that holds it.
        split: "train" (20,210) or "val" (2,000).
        check: see ``FilePairs``.
    """

    splits = ("train", "val")
    withheld = ("test",)
    counts = {"train": 20210, "val": 2000}
    licence = "https://ade20k.csail.mit.edu/terms/"
    class_names = TABLE.names
    palette = TABLE.palette

    def __init__(self, root: str | Path, split: str = "train", check: bool = True) -> None:
        source = f"ADE20K split {split!r}"
        check_split(split, SPLITS, "ADE20K")
        folder = find_root(root, source, ("images", "annotations"), (ARCHIVE,))
        images = list_files(folder / "images" / FOLDERS[split], (".jpg",))
        labels = list_files(folder / "annotations" / FOLDERS[split], (".png",))
        ids = {0: IGNORE} | {stored: k for k, stored in enumerate(TABLE.ids)}
        super().__init__(images, labels, LabelTable(ids, "0 (ignored) and 1..150"), f"{source} in {folder}", check)


@DATASETS.register("ade20k_full")
class ADE20KFull(FilePairs):
    """The full release of 2021, read as the same 150 classes by the challenge's own list of indices.

    ``images/ADE/{training,validation}/**/NAME.jpg`` with ``NAME_seg.png`` beside it, in whose colours the index of an
    object is ``R // 10 * 256 + G``; objects outside the 150 classes are ignored. Pictures keep the release's size.

    Args:
        root: the folder ``ADE20K_2021_17_01``, or the one that holds it.
        split: "train" (25,574) or "val" (2,000).
        check: see ``FilePairs``.
    """

    splits = ("train", "val")
    withheld = ("test",)
    counts = {"train": 25574, "val": 2000}
    licence = ADE20K.licence
    class_names = TABLE.names
    palette = TABLE.palette

    def __init__(self, root: str | Path, split: str = "train", check: bool = True) -> None:
        source = f"ADE20K (full) split {split!r}"
        check_split(split, SPLITS, "ADE20K (full)")
        folder = find_root(root, source, ("images/ADE",), (FULL_ARCHIVE,)) / "images" / "ADE" / FOLDERS[split]
        if not folder.is_dir():
            raise UserError(f"{source}: folder not found: {folder}")
        images, labels = {}, {}
        for file in walk_files(folder, (".jpg", ".png")):
            name = file.relative_to(folder).with_suffix("").as_posix()
            if file.suffix == ".jpg":
                images[name] = file
            elif name.endswith("_seg"):
                labels[name.removesuffix("_seg")] = file
        super().__init__(images, labels, SegColours(), f"{source} in {folder}", check)


class SegColours(LabelReader):
    """Reads the ``_seg.png`` of the full release."""

    def __init__(self) -> None:
        self.lut = np.full(LAST_INDEX, IGNORE, np.uint8)
        numbers = {stored: k for k, stored in enumerate(TABLE.ids)}
        for index, row in read_ids("ade20k_full").items():
            self.lut[index] = numbers[row]

    def read(self, pair: Pair) -> Array:
        colours = read_image(pair.label, upright=False)
        index = colours[..., 0].astype(np.uint16) // 10 * 256 + colours[..., 1]
        return np.asarray(self.lut[index], np.uint8)
