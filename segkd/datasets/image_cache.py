"""Decoded images and labels of a data set, kept in a folder as bytes and mapped into memory: read at no cost.

A folder has a folder for each data set and its arguments, and in that a file for each pair: a header, the image, the
label. A header says of which files the pair was read, of what sizes and times, by which arguments and which version of
segkd; with any other it is not used, but written anew. Files are written beside and renamed, so that an interrupted
process leaves none that is not whole, and several can write at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import segkd
from segkd.datasets.base import Array, DataError, Sample, SegmentationDataset
from segkd.datasets.loading import Failure, loader_options
from segkd.errors import UserError
from segkd.files import replacing
from segkd.registry import description

FORMAT = 1
HEADER = struct.Struct("<8s4I32s")  # of FORMAT, height, width, bands
PLACE = 64  # of the image in a file
MAGIC = b"segkdimg"
DEFAULT = Path("~/.cache/segkd/images")
GB = 1e9


class ImageCache:
    """The kept pairs of a data set.

    Args:
        dataset: one that says which files its pairs are of (``files_of``).
        folder: for all data sets.

    Raises:
        UserError: a data set that does not say so, or whose arguments cannot be told by a text.
    """

    def __init__(self, dataset: SegmentationDataset, folder: str | Path = DEFAULT) -> None:
        if not isinstance(dataset, SegmentationDataset) or (len(dataset) and dataset.files_of(0) is None):
            raise UserError(
                f"data.cache: {type(dataset).__name__} does not say which files its images are of (files_of), so that "
                "nothing could tell when they change: leave data.cache out"
            )
        self.dataset = dataset
        self._settings = hashlib.sha256(settings(dataset).encode()).digest()
        self.folder = Path(folder).expanduser() / f"{type(dataset).__name__.lower()}_{self._settings.hex()[:16]}"

    def path(self, index: int) -> Path:
        """The file of a pair."""
        name = hashlib.sha256(self._called(index)).hexdigest()
        return self.folder / name[:2] / f"{name[:24]}.raw"

    def read(self, index: int) -> Sample | None:
        """The pair, mapped into memory; None if it is not kept, or of other files than there are now."""
        try:
            kept = np.memmap(self.path(index), np.uint8, "c")  # a copy is written to, if anyone writes
        except (OSError, ValueError):  # none; an empty file
            return None
        if len(kept) < PLACE:
            return None
        magic, form, height, width, bands, stamp = HEADER.unpack(kept[: HEADER.size].tobytes())
        end = PLACE + height * width * bands
        if (magic, form, stamp) != (MAGIC, FORMAT, self._stamp(index)) or len(kept) != end + height * width:
            return None
        content = np.asarray(kept)
        return Sample(content[PLACE:end].reshape(height, width, bands), content[end:].reshape(height, width))

    def write(self, index: int) -> None:
        """Read the pair from its files, and keep it.

        Raises:
            UserError: its files cannot be used.
        """
        stamp = self._stamp(index)  # before they are read: if they change meanwhile, it is found
        image, label = self.dataset[index]
        with replacing(self.path(index)) as temporary, temporary.open("wb") as stream:
            stream.write(HEADER.pack(MAGIC, FORMAT, *image.shape, stamp).ljust(PLACE, b"\0"))
            stream.write(np.ascontiguousarray(image).data)
            stream.write(np.ascontiguousarray(label).data)

    def missing(self) -> list[int]:
        """The pairs that are not kept."""
        return [index for index in range(len(self.dataset)) if self.read(index) is None]

    def size(self, indices: Sequence[int]) -> int:
        """Bytes that these pairs will take, by the headers of their images."""
        if not indices:
            return 0
        try:
            first = self.dataset[indices[0]]
        except UserError:
            return sum(PLACE + 4 * self._pixels(index) for index in indices)
        bands = int(first.image.shape[2])
        if not self.dataset.files_of(indices[0]):
            return len(indices) * (PLACE + (bands + 1) * int(first.label.size))
        return sum(PLACE + (bands + 1) * self._pixels(index) for index in indices)

    def _pixels(self, index: int) -> int:
        files = self.dataset.files_of(index)
        try:
            with Image.open(files[0]) as picture:  # type: ignore[index]  # the first is the image
                return int(picture.width * picture.height)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # the reader will say it in full
            return 0

    def _files(self, index: int) -> list[str]:
        return [os.path.abspath(path) for path in self.dataset.files_of(index) or ()]

    def _called(self, index: int) -> bytes:
        """What tells a pair from all others of the data set."""
        return "\0".join(self._files(index) or [str(index)]).encode(errors="surrogateescape")

    def _stamp(self, index: int) -> bytes:
        """What a kept pair was made of."""
        found = hashlib.sha256(self._settings + segkd.__version__.encode() + b"\0" + self._called(index))
        for file in self._files(index):
            try:
                about = os.stat(file)
            except OSError:  # the reader will say it
                found.update(b"none")
            else:
                found.update(struct.pack("<Qq", about.st_size, about.st_mtime_ns))
        return found.digest()


class Cached(SegmentationDataset):
    """``dataset``, whose pairs come from a cache where they are kept."""

    def __init__(self, dataset: SegmentationDataset, cache: ImageCache) -> None:
        self.dataset, self.cache = dataset, cache
        self.class_names, self.palette, self.channels = dataset.class_names, dataset.palette, dataset.channels

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        kept = self.cache.read(index)
        return self.dataset[index] if kept is None else kept

    def by_rows(self, index: int) -> Sample:
        kept = self.cache.read(index)
        return self.dataset.by_rows(index) if kept is None else kept

    def label_of(self, index: int) -> Array:
        kept = self.cache.read(index)
        return self.dataset.label_of(index) if kept is None else kept.label

    def name_of(self, index: int) -> str:
        return self.dataset.name_of(index)

    def files_of(self, index: int) -> Sequence[Path] | None:
        return self.dataset.files_of(index)


class _Filling(Dataset["Failure | None"]):
    """Keeps a pair when it is asked for."""

    def __init__(self, cache: ImageCache, indices: Sequence[int]) -> None:
        self.cache, self.indices = cache, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> Failure | None:
        index = self.indices[number]
        try:
            if self.cache.read(index) is None:  # another process may have been here
                self.cache.write(index)
        except UserError as error:
            return Failure(str(error))
        return None


def statement(cache: ImageCache, indices: Sequence[int]) -> str:
    """What is about to be kept, and its size on disk.

    Raises:
        UserError: there is not enough room.
    """
    needed = cache.size(indices)
    there = next(path for path in (cache.folder, *cache.folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"data.cache: {len(indices)} decoded images take {needed / GB:.1f} GB, and {there} has {free / GB:.1f} GB "
            "free: name a folder with more room (data.cache=FOLDER), or leave data.cache out"
        )
    return f"keeping {len(indices)} decoded images, {needed / GB:.2f} GB of {free / GB:.1f} GB free, in {cache.folder}"


def fill(cache: ImageCache, indices: Sequence[int], workers: int = 0, skip_bad: bool = False) -> Iterator[int]:
    """Keep these pairs by so many processes; how many are done, as it goes.

    Raises:
        DataError: a file that cannot be used, without ``skip_bad``.
    """
    options = loader_options(workers) | dict(collate_fn=_as_it_is, persistent_workers=False, pin_memory=False)
    for number, found in enumerate(DataLoader(_Filling(cache, indices), batch_size=None, **options), 1):
        if isinstance(found, Failure) and not skip_bad:
            raise DataError(found.message)
        yield number


def _as_it_is(found: Any) -> Any:
    return found


def settings(dataset: SegmentationDataset) -> str:
    """A data set's class, classes and arguments as a text, files among them with their sizes and times.

    Raises:
        UserError: an argument that has no text.
    """
    reader = getattr(dataset, "reader", None)  # what ids and colours mean may be said by a file beside the data
    meaning = getattr(reader, "legend", None)
    about = f"{list(dataset.class_names)} {[*map(tuple, dataset.palette)]} {'' if meaning is None else meaning}"
    return f"{about} {_text(dataset, type(dataset).__name__)}"


def _text(value: Any, owner: str) -> str:
    if isinstance(value, str | os.PathLike):
        path = os.path.expanduser(os.fspath(value))
        about = os.stat(path) if os.path.isfile(path) else None
        return repr(os.fspath(value)) + (f" of {about.st_size} at {about.st_mtime_ns}" if about else "")
    if isinstance(value, int | float | bool | bytes | None):
        return repr(value)
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_text(k, owner)}:{_text(v, owner)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_text(one, owner) for one in value) + "]"
    if (made_of := description(value)) is not None:
        return _text(made_of, owner)
    raise UserError(f"data.cache: {owner} has an argument that is not told by a text, {value!r}: leave data.cache out")
