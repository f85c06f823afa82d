"""PASCAL VOC 2012: 20 kinds of objects, and SBD's further labels (Everingham et al., 2010; Hariharan et al., 2011)."""

from __future__ import annotations

from pathlib import Path

from segkd.datasets.base import DATASETS, IGNORE, Array
from segkd.datasets.files import LabelReader, LabelTable, Pair, check_split
from segkd.datasets.layout import ListedPairs, find_root, read_names
from segkd.datasets.mat_labels import MatLabels

SPLITS = ("train", "val", "trainval", "trainaug")
ARCHIVE = ("VOCdevkit/VOC2012", "VOC2012")
LISTS = "ImageSets/Segmentation"
AUGMENTED = "SegmentationClassAug"
SBD_ARCHIVE = ("benchmark_RELEASE/dataset", "dataset")


def voc_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """The colours of VOC's devkit: the bits of a class's number, dealt to R, G, B in turn, the highest first."""

    def part(k: int, channel: int) -> int:
        return sum((k >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))

    return tuple((part(k, 0), part(k, 1), part(k, 2)) for k in range(count))


@DATASETS.register("voc2012")
class VOC2012(ListedPairs):
    """VOC 2012 as distributed: VOCtrainval_11-May-2012.tar unpacked.

    ``JPEGImages/NAME.jpg`` with ``SegmentationClass/NAME.png`` (palette PNGs; 255 = void), for the names in
    ``ImageSets/Segmentation/SPLIT.txt``. The split "trainaug" is SBD's: those of VOC and SBD that are not in val.

    Args:
        root: the folder ``VOC2012``, or the one that holds ``VOCdevkit``.
        split: "train" (1,464), "val" (1,449), "trainval" (2,913) or "trainaug" (10,582).
        sbd: of "trainaug", the folder of SBD (benchmark.tgz: ``cls/*.mat``, ``train.txt``, ``val.txt``); without,
            ``SegmentationClassAug/*.png`` and ``ImageSets/Segmentation/trainaug.txt`` are read, as it is passed on.
        check: see ``FilePairs``.
    """

    splits = ("train", "val")
    withheld = ("test",)
    counts = {"train": 1464, "val": 1449, "trainval": 2913, "trainaug": 10582}
    licence = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
    class_names = (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    )  # fmt: skip
    palette = voc_palette(21)

    def __init__(
        self, root: str | Path, split: str = "train", check: bool = True, sbd: str | Path | None = None
    ) -> None:
        source = f"VOC 2012 split {split!r}"
        check_split(split, SPLITS, "VOC 2012")
        folder = find_root(root, source, ("JPEGImages", "SegmentationClass", LISTS), ARCHIVE)
        labels = [(folder / "SegmentationClass", ".png")]
        if split == "trainaug" and sbd is not None:
            more = find_root(sbd, f"{source}: SBD", ("cls", "train.txt", "val.txt"), SBD_ARCHIVE)
            labels.append((more / "cls", ".mat"))
            lists = [folder / LISTS / "train.txt", more / "train.txt", more / "val.txt"]
            without = set(read_names(folder / LISTS / "val.txt", source))
            names = [
                name for name in dict.fromkeys(n for f in lists for n in read_names(f, source)) if name not in without
            ]
        else:
            if split == "trainaug":
                labels.append((folder / AUGMENTED, ".png"))
            names = read_names(folder / LISTS / f"{split}.txt", source)
        super().__init__(names, [(folder / "JPEGImages", ".jpg")], labels, PngOrMat(), f"{source} in {folder}", check)


class PngOrMat(LabelReader):
    """Reads VOC's palette PNGs and SBD's MATLAB files."""

    def __init__(self) -> None:
        ids = {k: k for k in range(21)} | {IGNORE: IGNORE}
        self.png = LabelTable(ids, "the class ids 0..20, and 255 for void")
        self.mat = MatLabels(("GTcls", "Segmentation"), self.png)

    def read(self, pair: Pair) -> Array:
        return (self.mat if pair.label.suffix == ".mat" else self.png).read(pair)
