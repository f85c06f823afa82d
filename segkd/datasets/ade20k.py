"""ADE20K as of the scene parsing challenge of 2016: 22,210 pictures, 150 classes (Zhou et al., 2017)."""

from __future__ import annotations

from pathlib import Path

from segkd.datasets.base import DATASETS, IGNORE
from segkd.datasets.files import FilePairs, LabelTable, check_split, existing_root, list_files
from segkd.datasets.palettes import spread_palette
from segkd.errors import UserError

SPLITS = ("train", "val")
FOLDERS = {"train": "training", "val": "validation"}
ARCHIVE = "ADEChallengeData2016"


@DATASETS.register("ade20k")
class ADE20K(FilePairs):
    """ADE20K as distributed: ADEChallengeData2016.zip unpacked.

    ``images/{training,validation}/*.jpg`` with ``annotations/{training,validation}/*.png``: stored 0 = other objects,
    ignored; 1..150 become the classes 0..149. Pictures differ in size.

    Args:
        root: the folder ``ADEChallengeData2016``, or the one that holds it.
        split: "train" (20,210) or "val" (2,000).
        check: see ``FilePairs``.
    """

    withheld = ("test",)
    # The first name of each row of the challenge's objectInfo150.
    class_names = (
        "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet",
        "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water",
        "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence", "desk",
        "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion", "base", "box", "column", "signboard",
        "chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path",
        "stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway", "river", "bridge", "bookcase",
        "blind", "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove", "palm",
        "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel", "bus", "towel", "light",
        "truck", "tower", "chandelier", "awning", "streetlight", "booth", "television receiver", "airplane",
        "dirt track", "apparel", "pole", "land", "bannister", "escalator", "ottoman", "bottle", "buffet", "poster",
        "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer", "plaything", "swimming pool", "stool",
        "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank",
        "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket", "sculpture",
        "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen", "plate", "monitor",
        "bulletin board", "shower", "radiator", "glass", "clock", "flag",
    )  # fmt: skip
    # Generated, not the challenge's own colours.
    palette = spread_palette(150)

    def __init__(self, root: str | Path, split: str = "train", check: bool = True) -> None:
        source = f"ADE20K split {split!r}"
        check_split(split, SPLITS, "ADE20K")
        folder = _challenge_folder(existing_root(root, source))
        images = list_files(folder / "images" / FOLDERS[split], (".jpg",))
        labels = list_files(folder / "annotations" / FOLDERS[split], (".png",))
        ids = {0: IGNORE} | {stored: stored - 1 for stored in range(1, 151)}
        super().__init__(images, labels, LabelTable(ids, "0 (ignored) and 1..150"), f"{source} in {folder}", check)


def _challenge_folder(root: Path) -> Path:
    for folder in (root, root / ARCHIVE):
        if (folder / "images").is_dir() and (folder / "annotations").is_dir():
            return folder
    raise UserError(
        f"ADE20K: neither {root} nor {root / ARCHIVE} holds images/ and annotations/ (the 2016 challenge's)"
    )
