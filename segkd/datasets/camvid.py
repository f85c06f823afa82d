"""CamVid, 11 classes: 701 frames of road scenes (Brostow et al., 2008; classes and split of SegNet, 2015)."""

from __future__ import annotations

from pathlib import Path

from segkd.datasets.base import DATASETS
from segkd.datasets.camvid_original import GROUPS, IMAGES, LABELS, colour_reader, find_original, is_original
from segkd.datasets.files import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    FilePairs,
    check_split,
    existing_root,
    identity_table,
    list_files,
)
from segkd.datasets.layout import read_names
from segkd.errors import UserError

SPLITS = ("train", "val", "test", "trainval")
SEGNET_VOID = 11
Files = dict[str, Path]


@DATASETS.register("camvid")
class CamVid(FilePairs):
    """CamVid in any of the layouts in which it is passed on, told apart by what is on disk.

    - ``images/SPLIT/*.jpg|png`` with ``labels/SPLIT/*.png``: ids 0..10, 255 = void;
    - SegNet's ``SPLIT/*.png`` with ``SPLITannot/*.png``: ids 0..10, 11 = void. If ``SPLIT.txt`` is there, its lines
      (``/SegNet/CamVid/train/A.png /SegNet/CamVid/trainannot/A.png``) say which pairs belong to the split;
    - the authors' ``701_StillsRaw_full/A.png`` with ``LabeledApproved_full/A_L.png``, 960 x 720 in 32 colours, grouped
      into the 11 classes and split as SegNet did.

    Args:
        root: folder that holds one of the layouts.
        split: "train" (367), "val" (101), "test" (233) or "trainval" (468).
        check: see ``FilePairs``.
    """

    counts = {"train": 367, "val": 101, "test": 233, "trainval": 468}
    licence = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"
    class_names = (
        "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist",
    )  # fmt: skip
    palette = (
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
        (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    )  # fmt: skip

    def __init__(self, root: str | Path, split: str = "train", check: bool = True) -> None:
        source = f"CamVid split {split!r}"
        check_split(split, SPLITS, "CamVid")
        folder = existing_root(root, source)
        if is_original(folder):
            groups = {name: ours for ours, names in GROUPS.items() for name in names}
            reader = colour_reader(self.class_names, self.palette, groups)
            super().__init__(*find_original(folder, split), reader, f"{source} in {folder}", check)
            return
        parts = ("train", "val") if split == "trainval" else (split,)
        segnet = _is_segnet(folder, parts)
        images: Files = {}
        labels: Files = {}
        for part in parts:
            found = _segnet(folder, part) if segnet else _plain(folder, part)
            # Names repeat across splits in no known copy; the split as a prefix keeps them apart all the same.
            prefix = f"{part}/" if len(parts) > 1 else ""
            images |= {prefix + name: file for name, file in found[0].items()}
            labels |= {prefix + name: file for name, file in found[1].items()}
        table = identity_table(len(self.class_names), SEGNET_VOID if segnet else 255)
        super().__init__(images, labels, table, f"{source} in {folder}", check)


def _is_segnet(folder: Path, parts: tuple[str, ...]) -> bool:
    """Whether the layout on disk is SegNet's; a UserError that names what was looked for if there is neither."""
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        return False
    if any((folder / part).is_dir() and (folder / f"{part}annot").is_dir() for part in parts):
        return True
    part = parts[0]
    raise UserError(
        f"CamVid: {folder} holds neither images/ and labels/ (with {part}/ in each), "
        f"nor {part}/ and {part}annot/ (SegNet's layout), nor {IMAGES}/ and {LABELS}/ (the authors')"
    )


def _plain(folder: Path, part: str) -> tuple[Files, Files]:
    images = list_files(folder / "images" / part, IMAGE_SUFFIXES)
    return images, list_files(folder / "labels" / part, LABEL_SUFFIXES)


def _segnet(folder: Path, part: str) -> tuple[Files, Files]:
    images = list_files(folder / part, IMAGE_SUFFIXES)
    labels = list_files(folder / f"{part}annot", LABEL_SUFFIXES)
    listing = folder / f"{part}.txt"
    if not listing.is_file():
        return images, labels
    names = _listed(listing)
    absent = [name for name in names if name not in images and name not in labels]
    if absent:
        raise UserError(f"{listing} lists {absent[0]!r}, but {folder / part} and {folder / part}annot lack it")
    return {n: f for n, f in images.items() if n in names}, {n: f for n, f in labels.items() if n in names}


def _listed(listing: Path) -> set[str]:
    """The names in lines of "image label"; the paths' folders (those of another machine) do not count."""
    return {Path(name.rstrip(";")).stem for name in read_names(listing, "CamVid")}
