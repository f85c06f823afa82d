"""Data sets of Hugging Face's ``datasets`` that lie on disk, as ``save_to_disk`` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segkd.datasets.base import DATASETS, RGB, Array, Sample, SegmentationDataset
from segkd.datasets.class_lists import find_class_list, read_class_list
from segkd.datasets.files import Pair, existing_root
from segkd.datasets.image_files import check_channels, decode_image, read_bytes, whole
from segkd.datasets.label_files import decode_label
from segkd.datasets.legend import make_legend
from segkd.datasets.splitting import draw
from segkd.errors import UserError, nearest

IMAGES = ("image", "img", "pixel_values", "picture")
LABELS = (
    "label", "annotation", "mask", "segmentation", "semantic_mask", "segmentation_mask", "labels",
    "annotations", "masks",
)  # fmt: skip
ALIASES = {"val": ("val", "validation", "valid", "dev"), "train": ("train", "training"), "test": ("test", "testing")}
ID2LABEL = "id2label.json"
ONE, SEVERAL = "state.json", "dataset_dict.json"  # what save_to_disk writes
SHARE = 0.2  # for validation, where there is one split alone


@DATASETS.register("huggingface")
class HuggingFace(SegmentationDataset):
    """A folder that ``datasets.load_dataset(...).save_to_disk(FOLDER)`` wrote: images with label maps beside them.

    Both are columns of the kind ``Image``; the labels hold ids, as PNG. Nothing is fetched. Needs
    ``pip install "segkd[datasets]"``.

    Args:
        root: the folder.
        split: "train", "val" (or "validation"), "test", or a name of its own; of a folder with one split alone, "train"
            and "val" are drawn from it.
        class_names: one name per class, in id order; or a file, see ``FolderDataset``. Left out, ``id2label.json`` or
            another class list in the folder is read.
        image, label: the columns; by default those that are called so, or the only other one.
        palette, ignore, label_map: see ``FolderDataset``.
        upright, white, channels: how images are read, see ``FolderDataset``.
        val, seed: the share for validation (0.2) that is drawn by the seed, of a folder with one split alone.
    """

    splits = ("train", "val")

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        class_names: Sequence[str] | str | Path | None = None,
        image: str | None = None,
        label: str | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        ignore: Any = None,
        label_map: Mapping[Any, Any] | None = None,
        upright: bool = True,
        val: float | None = None,
        seed: int = 0,
        white: float | None = None,
        channels: int = RGB,
    ) -> None:
        folder = existing_root(root, "a Hugging Face data set")
        self.source, self.split = f"{folder} split {split!r}", split
        self.upright, self.white, self.channels = upright, white, check_channels(channels, "a Hugging Face data set")
        listed = read_class_list(_class_file(folder) if class_names is None else class_names)
        legend = make_legend(listed, palette, ignore, label_map)
        self.class_names, self.palette, self.table = legend.names, legend.palette, legend.table()
        rows = _open(folder, split)
        columns = _columns(rows, image, label, folder)
        self.images, self.labels = (_undecoded(rows, column) for column in columns)
        self.numbers: Sequence[int] = range(len(rows))
        if (folder / ONE).is_file():
            picked = draw([str(k) for k in self.numbers], SHARE if val is None else val, seed, None, str(folder))
            self.numbers = [k for k in self.numbers if (k in picked) == (split in ALIASES["val"])]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        place = self._place(index, "image")
        data = _content(self.images, self.numbers[index], place, "image")
        image = decode_image(data, place, self.upright, self.white, self.channels)
        label = self.label_of(index)
        if image.shape[:2] != label.shape:
            (h, w), (k, m) = image.shape[:2], label.shape
            raise UserError(f"{place}: label is {m} x {k} (width x height), its image is {w} x {h}; they must be equal")
        return Sample(image, label)

    def label_of(self, index: int) -> Array:
        place = self._place(index, "label")
        stored = decode_label(_content(self.labels, self.numbers[index], place, "label"), place)
        return self.table.classes(Pair(self.name_of(index), place, place), stored)

    def name_of(self, index: int) -> str:
        return f"{self.split}_{self.numbers[index]:06d}"

    def _place(self, index: int, role: str) -> Path:
        """What messages call an image or a label."""
        return Path(f"{self.source}, row {self.numbers[index]}, {role}")


def was_saved(folder: str | Path) -> bool:
    """True for a folder that ``save_to_disk`` wrote."""
    return any((Path(folder).expanduser() / name).is_file() for name in (ONE, SEVERAL))


def _class_file(folder: Path) -> Path:
    found = folder / ID2LABEL if (folder / ID2LABEL).is_file() else find_class_list([folder])
    if found is None:
        raise UserError(
            f"{folder}: what are the classes called? Name them in the order of their ids, by class_names, a list or a "
            f"file, or put the hub's {ID2LABEL} into the folder"
        )
    return found


def _open(folder: Path, split: str) -> Any:
    """The rows of a split."""
    if not was_saved(folder):
        raise UserError(
            f"{folder} holds neither {ONE} nor {SEVERAL}: it must be a folder that save_to_disk of Hugging Face's "
            "datasets wrote"
        )
    try:
        from datasets import load_from_disk
    except ImportError as error:
        raise UserError(f'{folder} needs Hugging Face\'s datasets: pip install "segkd[datasets]"') from error
    names = ALIASES.get(split, (split,))
    if (folder / SEVERAL).is_file():
        there = _split_names(folder)
        name = next((name for name in names if name in there), None)
        if name is None:
            raise UserError(f"{folder} has no split {split!r}; there is: {', '.join(there)}")
        folder = folder / name
    elif not {split} <= {*ALIASES["train"], *ALIASES["val"]}:
        raise UserError(f"{folder} has one split alone, of which train and val are drawn; there is no {split!r}")
    try:
        return load_from_disk(str(folder))
    except Exception as error:  # its own, pyarrow's, or the system's
        raise UserError(f"{folder} cannot be read: {' '.join(str(error).split())[:200]}; save it again") from error


def _split_names(folder: Path) -> list[str]:
    try:
        return [str(name) for name in json.loads((folder / SEVERAL).read_text(encoding="utf-8"))["splits"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / SEVERAL} cannot be read: {error}; save the data set again") from error


def _columns(rows: Any, image: str | None, label: str | None, folder: Path) -> tuple[str, str]:
    """The columns of images and of labels."""
    pictures = [name for name, kind in rows.features.items() if type(kind).__name__ == "Image"]
    for given in (image, label):
        if given is not None and given not in pictures:
            raise UserError(f"{folder} has no column {given!r} of images; {nearest(given, pictures or rows.features)}")
    found = image or next((name for name in IMAGES if name in pictures and name != label), None)
    others = [name for name in pictures if name != found]
    other = label or next((name for name in LABELS if name in others), others[0] if len(others) == 1 else None)
    if found is None or other is None or found == other:
        kinds = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in rows.features.items())
        raise UserError(f"{folder}: which columns are image and label? Say image=... and label=...; there is: {kinds}")
    return found, other


def _undecoded(rows: Any, column: str) -> Any:
    from datasets import Image

    return rows.select_columns([column]).cast_column(column, Image(decode=False)).rename_column(column, "cell")


def _content(rows: Any, number: int, place: Path, role: str) -> bytes:
    """The bytes of an image file, stored in the table or beside it."""
    cell = rows[int(number)]["cell"]
    if cell is None:
        raise UserError(f"{place}: there is none in this row")
    if cell["bytes"] is not None:
        return whole(bytes(cell["bytes"]), place, role)
    return read_bytes(Path(cell["path"]), role)
