"""Data sets made of image and label files: pairing, reading, and label ids -> classes, with every error named."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from segkd.datasets.base import IGNORE, RGB, Array, Sample, SegmentationDataset
from segkd.datasets.image_files import read_image
from segkd.datasets.image_headers import orientation
from segkd.datasets.label_files import Ids, read_label
from segkd.datasets.png_rows import COLOURS, IDS, PngRows, png_rows
from segkd.errors import UserError

UNKNOWN = 254  # marks, in a label table, the ids that no file may hold
MOST = 1 << 16  # ids, of 16 bits
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")


class Pair(NamedTuple):
    """An image file and its label file under one name; ``key`` is what the label's side calls it, if it does so."""

    name: str
    image: Path
    label: Path
    key: str = ""


class UnknownLabelError(UserError):
    """Values in a label that are no class: ``shape`` is the label's (H, W), so that more can be said of it."""

    def __init__(self, message: str, shape: tuple[int, int]) -> None:
        super().__init__(message)
        self.shape = shape


class LabelReader(ABC):
    """How the labels of a data set are stored."""

    @abstractmethod
    def read(self, pair: Pair) -> Array:
        """The label (H, W) uint8 of a pair: classes 0..K-1 and 255 = ignore.

        Raises:
            UserError: a damaged file.
            UnknownLabelError: values that are no class, with the file, the values, how many pixels, and the cure.
        """

    def by_rows(self, pair: Pair) -> Array | PngRows:
        """The same, or what ``label[rows, columns]`` alone can be asked of."""
        return self.read(pair)

    def files(self, pair: Pair) -> Sequence[Path]:
        """The files that the label is made of."""
        return (pair.label,)


class LabelTable(LabelReader):
    """Masks of ids as stored (0..65535) -> classes 0..K-1 and 255 = ignore.

    Args:
        ids: stored id -> class, or 255; all other ids are unknown, and a file that holds one is a UserError.
        right: the sentence part that says what a label file should hold.
    """

    def __init__(self, ids: Mapping[int, int], right: str) -> None:
        self.right = right
        self.lut = np.full(MOST if max(ids, default=0) > 255 else 256, UNKNOWN, dtype=np.uint8)
        for stored, target in ids.items():
            if not 0 <= stored < MOST or not (0 <= target < UNKNOWN or target == IGNORE):
                raise UserError(
                    f"label map {stored} -> {target}: ids are 0..{MOST - 1}, classes 0..{UNKNOWN - 1} or {IGNORE}"
                )
            self.lut[stored] = target

    def __call__(self, stored: Ids) -> Array:
        """The classes (H, W) of stored ids (H, W); in them 254 marks the unknown ids."""
        if stored.dtype == np.uint8:
            return np.asarray(cv2.LUT(stored, self.lut[:256]), dtype=np.uint8)
        beyond = stored >= len(self.lut)
        return np.where(beyond, np.uint8(UNKNOWN), self.lut[np.where(beyond, 0, stored)])

    def unknown(self, stored: Ids) -> list[int]:
        """The ids in ``stored`` that the table does not know."""
        return [int(v) for v in np.unique(stored) if v >= len(self.lut) or self.lut[v] == UNKNOWN]

    def read(self, pair: Pair) -> Array:
        return self.classes(pair, read_label(pair.label))

    def by_rows(self, pair: Pair) -> Array | PngRows:
        if type(self).read is not LabelTable.read:
            return self.read(pair)
        return png_rows(pair.label, lambda: self.read(pair), IDS, False, partial(self.classes, pair)) or self.read(pair)

    def classes(self, pair: Pair, stored: Ids) -> Array:
        """The label of ids that were read from a pair's file; see ``read``."""
        label = self(stored)
        if (label == UNKNOWN).any():
            values = self.unknown(stored)
            counts = {str(value): int((stored == value).sum()) for value in values}
            raise UnknownLabelError(
                f"{pair.label}: label {unknown_values(counts)} outside the classes; a label holds {self.right}",
                label.shape,
            )
        return label


def unknown_values(counts: Mapping[str, int], word: str = "value") -> str:
    """``value 7 (5 pixels)`` or ``values 7, 9 (12 pixels)``: what a message says of values that are no class."""
    shown = ", ".join(list(counts)[:5]) + (", ..." if len(counts) > 5 else "")
    return f"{word}{'s' if len(counts) > 1 else ''} {shown} ({sum(counts.values())} pixels)"


def identity_table(num_classes: int, void: int = IGNORE) -> LabelTable:
    """A table whose stored ids are the classes themselves; ``void`` and 255 are ignored."""
    ids = {k: k for k in range(num_classes)} | {void: IGNORE, IGNORE: IGNORE}
    voids = f"{void} or {IGNORE}" if void != IGNORE else str(IGNORE)
    return LabelTable(ids, f"the class ids 0..{num_classes - 1}, and {voids} for void")


class FilePairs(SegmentationDataset):
    """A data set of files: ``pairs`` read in order, label ids through ``table``.

    Args:
        images, labels: name -> file on either side (see ``list_files``).
        reader: how the labels are stored: as ids by a table, or in another way.
        source: how messages call this data set.
        check: an image without label, or a label without image, is a UserError; else it is only listed in ``unpaired``.
        upright, white, channels: see ``read_image``.
    """

    def __init__(
        self,
        images: Mapping[str, Path],
        labels: Mapping[str, Path],
        reader: LabelReader,
        source: str,
        check: bool = True,
        upright: bool = True,
        white: float | None = None,
        channels: int = RGB,
    ) -> None:
        self.reader, self.upright, self.white, self.channels = reader, upright, white, channels
        self.source = source
        self.pairs = [Pair(name, images[name], labels[name]) for name in sorted(images.keys() & labels.keys())]
        if images and labels and not self.pairs:
            raise UserError(
                f"{source}: no image has a label of its name ({min(images)!r} and so on, labels {min(labels)!r} and so "
                "on): are the labels those of another split?"
            )
        self.unpaired = [f"{images[n]}: no label file {_expected(n, labels)}" for n in sorted(images.keys() - labels)]
        self.unpaired += [f"{labels[n]}: no image file {_expected(n, images)}" for n in sorted(labels.keys() - images)]
        if check and self.unpaired:
            more = f" (and {len(self.unpaired) - 1} more; `verify` lists all)" if len(self.unpaired) > 1 else ""
            raise UserError(f"{source}: {self.unpaired[0]}{more}; check=False goes on without such files")
        if not images and not labels:
            raise UserError(f"{source} is empty: no image and no label file found")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self.pairs[index]
        image, label = self.image_of(index), self.reader.read(pair)
        if image.shape[:2] != label.shape:
            raise UserError(size_problem(pair, image.shape, label.shape))
        return Sample(image, label)

    def by_rows(self, index: int) -> Sample:
        pair, kind = self.pairs[index], type(self)
        if (kind.__getitem__, kind.image_of) != (FilePairs.__getitem__, FilePairs.image_of):  # read in another way
            return self[index]
        image = None
        if self.channels == RGB:
            image = png_rows(pair.image, lambda: self.image_of(index), COLOURS, self.upright)
        if image is None:
            return self[index]
        label = self.reader.by_rows(pair)
        if image.shape[:2] != label.shape:
            raise UserError(size_problem(pair, image.shape, label.shape))
        return Sample(image, label)  # type: ignore[arg-type]

    def image_of(self, index: int) -> Array:
        """The image (H, W, channels) at ``index``."""
        return read_image(self.pairs[index].image, self.upright, self.white, self.channels)

    def label_of(self, index: int) -> Array:
        return self.reader.read(self.pairs[index])

    def files_of(self, index: int) -> Sequence[Path]:
        pair = self.pairs[index]
        return pair.image, *self.reader.files(pair)

    def name_of(self, index: int) -> str:
        return self.pairs[index].name


def size_problem(pair: Pair, image: Sequence[int], label: Sequence[int]) -> str:
    """The message for a label of another size (H, W) than its image (H, W, C)."""
    tag = orientation(pair.image.read_bytes())
    turned = f" (orientation tag {tag}; upright=False reads it as stored)" if tag > 1 else ""
    return (
        f"{pair.label}: label is {label[1]} x {label[0]} (width x height), its image {pair.image} is {image[1]} x "
        f"{image[0]}{turned}; they must be equal"
    )


def list_files(folder: Path, suffixes: Sequence[str], ending: str = "") -> dict[str, Path]:
    """The files of ``folder`` that end in ``ending`` + one of ``suffixes``, by name; hidden files are left out.

    The name is the file's without both. A missing folder, or two files of one name, is a UserError.
    """
    if not folder.is_dir():
        raise UserError(f"folder not found: {folder}")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        check_name(file)
        if file.suffix.lower() not in suffixes or not file.stem.endswith(ending) or file.name.startswith("."):
            continue
        name = file.stem.removesuffix(ending)
        if name in found:
            raise UserError(f"two files for one name: {found[name]} and {file.name}; keep one")
        found[name] = file
    return found


def walk_files(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """The files below a folder that end in one of ``suffixes``, in order; hidden files and folders are left out.

    Links to folders are followed; one that leads back to a folder above it is a UserError.
    """
    yield from _walk(folder, tuple(suffixes), (_identity(folder),))


def _walk(folder: Path, suffixes: tuple[str, ...], above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be read ({error.strerror})") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        check_name(entry.path)
        if is_folder(entry):
            own = _identity(Path(entry.path))
            if own in above:
                raise UserError(f"{entry.path} is a link to a folder above itself: remove it, or name what is inside")
            yield from _walk(Path(entry.path), suffixes, (*above, own))
        elif entry.name.lower().endswith(suffixes):
            yield Path(entry.path)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """True for a folder or a link to one; a link that leads nowhere is none, and is named where it is read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def check_name(file: str | Path) -> None:
    """A UserError for a file whose name no list and no message could hold in a line."""
    text = str(file)
    if len(text.splitlines()) > 1:
        raise UserError(f"{text!r}: there is a line break in the name; rename the file")


def existing_root(root: str | Path, source: str) -> Path:
    """``root`` as a folder that exists, else a UserError."""
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"{source}: root folder not found: {folder}")
    return folder


def check_split(split: str, known: Sequence[str], source: str) -> str:
    """``split`` if it is among ``known``, else a UserError that lists them."""
    if split not in known:
        raise UserError(f"{source} has no split {split!r}; there is: {', '.join(known)}")
    return split


def _expected(name: str, others: Mapping[str, Path]) -> str:
    """The file name that the missing partner of ``name`` should have."""
    if not others:
        return f"of the name {name!r}"
    model_name, model = next(iter(others.items()))
    return repr(model.name.replace(Path(model_name).name, Path(name).name))
