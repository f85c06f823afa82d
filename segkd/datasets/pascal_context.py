"""PASCAL Context: VOC 2010 labelled as a whole, its 59 most common classes (Mottaghi et al., 2014)."""

from __future__ import annotations

from pathlib import Path

from segkd.datasets.base import DATASETS, IGNORE
from segkd.datasets.files import LabelReader, LabelTable, check_split, existing_root
from segkd.datasets.layout import ListedPairs, find_root, read_names
from segkd.datasets.mat_labels import MatLabels
from segkd.datasets.tables import read_table

SPLITS = ("train", "val")
ARCHIVE = ("VOCdevkit/VOC2010", "VOC2010")
MASKS, MASK_LISTS, LISTS = "SegmentationClassContext", "ImageSets/SegmentationContext", "ImageSets/Main"
ALL_IDS = 460  # of the full list; 0 is unlabelled
TABLE = read_table("pascal_context")


class _Context(ListedPairs):
    """Pascal Context, with background as a class or as void."""

    splits = ("train", "val")
    withheld = ("test",)
    counts = {"train": 4998, "val": 5105}
    licence = "https://cs.stanford.edu/~roozbeh/pascal-context/"

    def __init__(self, root: str | Path, split: str, labels: str | Path | None, check: bool, first: int) -> None:
        source = f"PASCAL Context split {split!r}"
        check_split(split, SPLITS, "PASCAL Context")
        folder = find_root(root, source, ("JPEGImages", "ImageSets"), ARCHIVE)
        background = IGNORE if first else 0
        reader: LabelReader
        if labels is None:
            place, listing = (folder / MASKS, ".png"), folder / MASK_LISTS / f"{split}.txt"
            ids = {IGNORE: IGNORE, 0: background} | {k: k - first for k in range(1, 60)}
            reader = LabelTable(ids, "the class ids 0..59 of mmsegmentation's converter")
        else:
            files = existing_root(labels, f"{source}: labels")
            files = files / "trainval" if (files / "trainval").is_dir() else files
            place, listing = (files, ".mat"), folder / LISTS / f"{split}.txt"
            ids = dict.fromkeys(range(ALL_IDS), background)
            ids |= {stored: k - first for k, stored in enumerate(TABLE.ids) if k}
            reader = MatLabels(("LabelMap",), LabelTable(ids, f"the ids 0..{ALL_IDS - 1} of labels.txt"))
        names = read_names(listing, source)
        super().__init__(names, [(folder / "JPEGImages", ".jpg")], [place], reader, f"{source} in {folder}", check)


@DATASETS.register("pascal_context")
class PascalContext(_Context):
    """Pascal Context with 60 classes: background, which is all that is not among the 59, is one.

    ``VOC2010/JPEGImages/NAME.jpg`` with ``SegmentationClassContext/NAME.png`` for the names in
    ``ImageSets/SegmentationContext/SPLIT.txt``, as mmsegmentation's converter writes them; or, with ``labels``, the
    authors' MATLAB files for the names in ``ImageSets/Main/SPLIT.txt``.

    Args:
        root: the folder ``VOC2010``, or the one that holds ``VOCdevkit``.
        split: "train" (4,998) or "val" (5,105).
        labels: folder of the authors' ``NAME.mat`` (trainval.tar.gz), all 459 labels.
        check: see ``FilePairs``.
    """

    class_names = TABLE.names
    palette = TABLE.palette

    def __init__(
        self, root: str | Path, split: str = "train", labels: str | Path | None = None, check: bool = True
    ) -> None:
        super().__init__(root, split, labels, check, first=0)


@DATASETS.register("pascal_context_59")
class PascalContext59(_Context):
    """Pascal Context with its 59 classes alone; background is ignored. See ``PascalContext``."""

    class_names = TABLE.names[1:]
    palette = TABLE.palette[1:]

    def __init__(
        self, root: str | Path, split: str = "train", labels: str | Path | None = None, check: bool = True
    ) -> None:
        super().__init__(root, split, labels, check, first=1)
