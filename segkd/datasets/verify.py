"""Look at every file of a data set and list all that is wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segkd.datasets.base import IGNORE, SegmentationDataset
from segkd.datasets.files import FilePairs, UnknownLabelError, size_problem
from segkd.errors import UserError


def verify(dataset: SegmentationDataset, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """All problems of a data set, one line each; none is an empty list.

    Looked for: files without partner, unreadable files, sizes that differ, label values outside the classes. Build a
    data set of files with ``check=False``, or its constructor stops at the first missing partner.

    Args:
        dataset: any data set.
        progress: called as ``progress(done, total)`` after each pair.
    """
    problems = list(dataset.unpaired) if isinstance(dataset, FilePairs) else []
    for index in range(len(dataset)):
        if isinstance(dataset, FilePairs):
            problems += _pair_problems(dataset, index)
        else:
            problems += _sample_problems(dataset, index)
        if progress is not None:
            progress(index + 1, len(dataset))
    if len(dataset) == 0:
        problems.append("no complete pair of image and label")
    return problems


def _pair_problems(dataset: FilePairs, index: int) -> list[str]:
    """Everything wrong with one pair of files, not only the first thing."""
    pair, problems = dataset.pairs[index], []
    image = label = None
    try:
        image = dataset.image_of(index).shape
    except UserError as error:
        problems.append(str(error))
    try:
        label = dataset.label_of(index).shape
    except UserError as error:
        problems.append(str(error))
        label = error.shape if isinstance(error, UnknownLabelError) else None
    if image is not None and label is not None and image[:2] != label:
        problems.insert(0, size_problem(pair, image, label))
    return problems


def _sample_problems(dataset: SegmentationDataset, index: int) -> list[str]:
    """What is wrong with one sample of a data set that is not made of files."""
    name = dataset.name_of(index)
    try:
        image, label = dataset[index]
    except UserError as error:
        return [str(error)]
    problems = []
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        problems.append(f"{name}: image is {image.shape} {image.dtype}, not (H, W, 3) uint8")
    if image.shape[:2] != label.shape or label.dtype != np.uint8:
        problems.append(f"{name}: label is {label.shape} {label.dtype}, not {image.shape[:2]} uint8")
    outside = sorted({int(value) for value in np.unique(label)} - set(range(dataset.num_classes)) - {IGNORE})
    if outside:
        problems.append(f"{name}: label values {outside} outside the classes 0..{dataset.num_classes - 1} and {IGNORE}")
    return problems
