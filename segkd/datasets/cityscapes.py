"""Cityscapes, fine annotations: 5,000 street scenes of 2048 x 1024, 19 evaluated classes (Cordts et al., 2016)."""

from __future__ import annotations

from pathlib import Path

from segkd.datasets.base import DATASETS, IGNORE
from segkd.datasets.files import FilePairs, LabelTable, check_split, existing_root, list_files
from segkd.errors import UserError

SPLITS = ("train", "val", "test")
# The official ids (labelIds) of the 19 classes that are trained and evaluated, in train-id order.
TRAINED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
LAST_ID = 33  # of 0..33; the licence plate has -1, which 8 bits store as 255


@DATASETS.register("cityscapes")
class Cityscapes(FilePairs):
    """Cityscapes as distributed: leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip unpacked into one folder.

    ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` with ``gtFine/SPLIT/CITY/*_gtFine_labelIds.png``. The label ids 0..33
    become the 19 train ids while loading; all others are ignored.

    Args:
        root: folder that holds ``leftImg8bit`` and ``gtFine``.
        split: "train" (2975), "val" (500) or "test" (1525; its public labels hold no class).
        check: see ``FilePairs``.
    """

    withheld = ("test",)
    class_names = (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    )  # fmt: skip
    palette = (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
        (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
        (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    )  # fmt: skip

    def __init__(self, root: str | Path, split: str = "train", check: bool = True) -> None:
        source = f"Cityscapes split {split!r}"
        check_split(split, SPLITS, "Cityscapes")
        folder = existing_root(root, source)
        images = _cities(folder, "leftImg8bit", split, "_leftImg8bit")
        labels = _cities(folder, "gtFine", split, "_gtFine_labelIds")
        ids = dict.fromkeys([*range(LAST_ID + 1), 255], IGNORE) | {stored: k for k, stored in enumerate(TRAINED_IDS)}
        table = LabelTable(ids, "the official label ids 0..33 (255 for -1), not train ids or colours")
        super().__init__(images, labels, table, f"{source} in {folder}", check)


def _cities(root: Path, kind: str, split: str, ending: str) -> dict[str, Path]:
    """ "CITY/FRAME" -> file, over the city folders of one split."""
    folder = root / kind / split
    if not folder.is_dir():
        raise UserError(f"Cityscapes: folder not found: {folder} (root is the folder with leftImg8bit/ and gtFine/)")
    cities = sorted(city for city in folder.iterdir() if city.is_dir() and not city.name.startswith("."))
    return {
        f"{city.name}/{name}": file for city in cities for name, file in list_files(city, (".png",), ending).items()
    }
