"""CamVid as its authors distribute it: frames of 960 x 720, labels in 32 colours; SegNet's split and classes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from segkd.datasets.base import DATASETS, IGNORE
from segkd.datasets.files import FilePairs, check_split, list_files
from segkd.datasets.formats.masks import MaskReader
from segkd.datasets.layout import find_root
from segkd.datasets.legend import Legend
from segkd.datasets.palettes import Colour
from segkd.datasets.tables import read_table
from segkd.errors import UserError

SPLITS = ("train", "val", "test", "trainval")
IMAGES, LABELS = "701_StillsRaw_full", "LabeledApproved_full"
VOID: Colour = (0, 0, 0)
TABLE = read_table("camvid32")
#: SegNet's 11 classes, in their order, of the authors' 32
GROUPS = {
    "sky": ("Sky",),
    "building": ("Archway", "Bridge", "Building", "Tunnel", "Wall"),
    "pole": ("Column_Pole", "TrafficCone"),
    "road": ("LaneMkgsDriv", "LaneMkgsNonDriv", "Road"),
    "pavement": ("ParkingBlock", "RoadShoulder", "Sidewalk"),
    "tree": ("Tree", "VegetationMisc"),
    "sign symbol": ("Misc_Text", "SignSymbol", "TrafficLight"),
    "fence": ("Fence",),
    "car": ("Car", "OtherMoving", "SUVPickupTruck", "Train", "Truck_Bus"),
    "pedestrian": ("Animal", "CartLuggagePram", "Child", "Pedestrian"),
    "bicyclist": ("Bicyclist", "MotorcycleScooter"),
}
#: SegNet's split, by sequence and frame
VAL_FRAMES = range(7959, 8160)  # of 0016E5
FIRST_TEST_FRAME = 8550  # of 0001TP
NAME = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)")
Files = dict[str, Path]


def is_original(folder: Path) -> bool:
    """True for a folder that holds CamVid as its authors distribute it."""
    return (folder / IMAGES).is_dir() and (folder / LABELS).is_dir()


def find_original(folder: Path, split: str) -> tuple[Files, Files]:
    """The images and labels of a split, by name.

    Raises:
        UserError: a file whose name is that of no frame.
    """
    images, labels = list_files(folder / IMAGES, (".png",)), list_files(folder / LABELS, (".png",), "_L")
    keep = ("train", "val") if split == "trainval" else (split,)
    found = [{name: file for name, file in side.items() if split_of(file, name) in keep} for side in (images, labels)]
    return found[0], found[1]


def split_of(file: Path, name: str) -> str:
    """The split of SegNet's to which a frame belongs."""
    match = NAME.fullmatch(name)
    if match is None:
        raise UserError(f"{file}: no name of a CamVid frame, such as 0016E5_07959; put other files elsewhere")
    sequence, frame = match[1], int(match[2])
    if sequence == "Seq05VD" or (sequence == "0001TP" and frame >= FIRST_TEST_FRAME):
        return "test"
    return "val" if sequence == "0016E5" and frame in VAL_FRAMES else "train"


def colour_reader(names: Sequence[str], palette: Sequence[Colour], group: Mapping[str, str]) -> MaskReader:
    """What reads the colours: each of the 31 as the class to which ``group`` puts its name; black as void."""
    number = {name: k for k, name in enumerate(names)}
    colours = {colour: number[group[name]] for name, colour in zip(TABLE.names, TABLE.palette, strict=True)}
    ids = {k: k for k in range(len(names))} | {IGNORE: IGNORE}
    return MaskReader(Legend(tuple(names), tuple(palette), ids, number, colours | {VOID: IGNORE}, IGNORE, False))


@DATASETS.register("camvid32")
class CamVid32(FilePairs):
    """CamVid with its authors' own classes: 31 that are named, and Void, which is ignored.

    ``701_StillsRaw_full/NAME.png`` with ``LabeledApproved_full/NAME_L.png``: 960 x 720, labels in colours.

    Args:
        root: folder that holds both.
        split: of SegNet: "train" (367), "val" (101), "test" (233) or "trainval" (468).
        check: see ``FilePairs``.
    """

    counts = {"train": 367, "val": 101, "test": 233, "trainval": 468}
    licence = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"
    class_names = TABLE.names
    palette = TABLE.palette

    def __init__(self, root: str | Path, split: str = "train", check: bool = True) -> None:
        source = f"CamVid (32 classes) split {split!r}"
        check_split(split, SPLITS, "CamVid")
        folder = find_root(root, source, (IMAGES, LABELS))
        reader = colour_reader(TABLE.names, TABLE.palette, {name: name for name in TABLE.names})
        super().__init__(*find_original(folder, split), reader, f"{source} in {folder}", check)
