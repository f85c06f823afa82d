"""Mapillary Vistas, research edition: street scenes from all continents (Neuhold et al., 2017)."""

from __future__ import annotations

from pathlib import Path

from segkd.datasets.base import DATASETS, IGNORE
from segkd.datasets.files import FilePairs, LabelTable, check_split, list_files
from segkd.datasets.layout import find_root
from segkd.datasets.tables import ClassTable, read_table

SPLITS = ("train", "val")
FOLDERS = {"train": "training", "val": "validation"}
TABLE, TABLE_V2 = read_table("mapillary"), read_table("mapillary_v2")


class Vistas(FilePairs):
    """A version of Mapillary Vistas.

    ``{training,validation}/images/*.jpg`` with ``{training,validation}/VERSION/labels/*.png``: 8-bit palette PNGs.

    Attributes:
        version: as its folder is called.
        table: the classes that are evaluated.
        all_ids: how many ids its labels have.

    Args:
        root: folder that holds ``training`` and ``validation``.
        split: "train" (18,000) or "val" (2,000).
        check: see ``FilePairs``.
    """

    version: str
    table: ClassTable
    all_ids: int
    splits = ("train", "val")
    withheld = ("test",)
    counts = {"train": 18000, "val": 2000}
    licence = "https://www.mapillary.com/dataset/vistas"

    def __init__(self, root: str | Path, split: str = "train", check: bool = True) -> None:
        version = self.version
        source = f"Mapillary Vistas {version} split {split!r}"
        check_split(split, SPLITS, "Mapillary Vistas")
        folder = find_root(root, source, (f"{FOLDERS[split]}/images",)) / FOLDERS[split]
        labels = folder / version / "labels"
        if version == "v1.2" and not labels.is_dir() and (folder / "labels").is_dir():
            labels = folder / "labels"  # the archive of that version alone
        ids = dict.fromkeys([*range(self.all_ids), IGNORE], IGNORE)
        ids |= {stored: k for k, stored in enumerate(self.table.ids)}
        super().__init__(
            list_files(folder / "images", (".jpg",)),
            list_files(labels, (".png",)),
            LabelTable(ids, f"the ids 0..{self.all_ids - 1} of config_{version}.json"),
            f"{source} in {folder.parent}",
            check,
        )


@DATASETS.register("mapillary")
class Mapillary(Vistas):
    """Mapillary Vistas v1.2: the 65 classes that are evaluated; "Unlabeled" is ignored.

    Also ``{training,validation}/labels/*.png``, as in the archive of v1.2 alone. See ``Vistas``.
    """

    version, table, all_ids = "v1.2", TABLE, 66
    class_names, palette = TABLE.names, TABLE.palette


@DATASETS.register("mapillary_v2")
class MapillaryV2(Vistas):
    """Mapillary Vistas v2.0: the 116 classes that are evaluated; the 8 others (groups, ambiguous) are ignored.

    See ``Vistas``.
    """

    version, table, all_ids = "v2.0", TABLE_V2, 124
    class_names, palette = TABLE_V2.names, TABLE_V2.palette
