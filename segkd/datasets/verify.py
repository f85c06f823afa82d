"""Look at every file of a data set and list all that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkd.datasets.base import IGNORE, Array, SegmentationDataset
from segkd.datasets.files import FilePairs, UnknownLabelError, size_problem
from segkd.datasets.threads import in_threads
from segkd.errors import UserError


class Examined(NamedTuple):
    """What was seen of some pairs: all problems, one line each, and the pixels of each value of the labels (256,)."""

    problems: list[str]
    pixels: NDArray[np.int64]


def verify(dataset: SegmentationDataset, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """All problems of a data set, one line each; none is an empty list.

    Looked for: files without partner, unreadable files, sizes that differ, label values outside the classes. Build a
    data set of files with ``check=False``, or its constructor stops at the first missing partner.

    Args:
        dataset: any data set.
        progress: called as ``progress(done, total)`` after each pair.
    """
    return examine(dataset, progress=progress).problems


def examine(
    dataset: SegmentationDataset,
    indices: Iterable[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Examined:
    """The problems of a data set and the pixels of its classes, of all pairs or of some.

    Args:
        dataset, progress: see ``verify``.
        indices: the pairs to look at.
    """
    chosen = list(range(len(dataset)) if indices is None else indices)
    problems = list(dataset.unpaired)
    pixels = np.zeros(256, np.int64)

    def look(index: int) -> Examined:
        part, own = dataset.part_of(index)
        found, label = _pair(part, own) if isinstance(part, FilePairs) else _sample(part, own)
        return Examined(found, count_values(label) if label is not None else np.zeros(256, np.int64))

    for done, seen in enumerate(in_threads(look, chosen), 1):
        problems += seen.problems
        pixels += seen.pixels
        if progress is not None:
            progress(done, len(chosen))
    if len(dataset) == 0:
        problems.append("no complete pair of image and label")
    return Examined(problems, pixels)


def count_values(label: Array) -> NDArray[np.int64]:
    """The pixels (256,) of each value of a label (H, W)."""
    return np.bincount(label.ravel(), minlength=256).astype(np.int64)


def _pair(dataset: FilePairs, index: int) -> tuple[list[str], Array | None]:
    """Everything wrong with one pair of files, not only the first thing; and its classes, where they can be read."""
    problems, image, label, size = [], None, None, None
    try:
        image = dataset.image_of(index).shape
    except UserError as error:
        problems.append(str(error))
    try:
        label = dataset.label_of(index)
        size = label.shape
    except UserError as error:
        problems.append(str(error))
        size = error.shape if isinstance(error, UnknownLabelError) else None
    if image is not None and size is not None and image[:2] != size:
        problems.insert(0, size_problem(dataset.pairs[index], image, size))
    return problems, label


def _sample(dataset: SegmentationDataset, index: int) -> tuple[list[str], Array | None]:
    """What is wrong with one sample of a data set that is not made of files."""
    name = dataset.name_of(index)
    try:
        image, label = dataset[index]
    except UserError as error:
        return [str(error)], None
    problems = []
    if image.ndim != 3 or image.shape[2] != dataset.channels or image.dtype != np.uint8:
        problems.append(f"{name}: image is {image.shape} {image.dtype}, not (H, W, {dataset.channels}) uint8")
    if image.shape[:2] != label.shape or label.dtype != np.uint8:
        problems.append(f"{name}: label is {label.shape} {label.dtype}, not {image.shape[:2]} uint8")
    outside = sorted({int(value) for value in np.unique(label)} - set(range(dataset.num_classes)) - {IGNORE})
    if outside:
        problems.append(f"{name}: label values {outside} outside the classes 0..{dataset.num_classes - 1} and {IGNORE}")
    return problems, label if label.dtype == np.uint8 else None
