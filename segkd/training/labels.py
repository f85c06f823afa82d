"""What the labels of a split hold, looked at before a run: a split of nothing but void, classes that never occur."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from segkd.datasets import SegmentationDataset
from segkd.datasets.base import IGNORE, Array
from segkd.datasets.tolerant import Tolerant
from segkd.errors import UserError

LOOKS = 200  # labels at most, where a class is not found
_COUNTED: WeakKeyDictionary[SegmentationDataset, list[float]] = WeakKeyDictionary()
COUNTED = 2000  # labels at most, for the frequencies of classes
MUCH_VOID = 0.25  # of the pixels
RATHER = ": if 255 is a class in your files, say which by label_map={0: 0, 255: 1}"
LOOKS_WITH_IMAGES = 20  # the same, where a label can't be had without making its image, too


def check_some_valid(dataset: SegmentationDataset, split: str) -> None:
    """A UserError if all pixels of all labels are void; the first label that holds anything else ends the search."""
    for index in range(len(dataset)):
        if (_label(dataset, index) != IGNORE).any():
            return
    raise UserError(
        f"all {len(dataset)} labels of data.{split} ({type(dataset).__name__}) are void ({IGNORE}) everywhere: there "
        "is nothing to learn from or to score; check the label files, and label_map or ignore"
    )


def missing_classes(dataset: SegmentationDataset) -> str:
    """What to say of classes that occur in no label that was looked at: "" if every class was found.

    Labels are read at equal distances until every class is found, `LOOKS` of them at most: so a common data set takes a
    few, and a split of thousands no more than seconds. Where only one class is found, and where most is void, that is
    said, too.
    """
    reads_images = getattr(type(dataset), "label_of", SegmentationDataset.label_of) is SegmentationDataset.label_of
    looks = min(len(dataset), LOOKS_WITH_IMAGES if reads_images else LOOKS)
    counts = np.zeros(256, dtype=np.int64)
    for k in range(looks):
        counts += np.bincount(_label(dataset, k * len(dataset) // looks).ravel(), minlength=256)
        if counts[: dataset.num_classes].all():
            return ""
    names = [name for name, count in zip(dataset.class_names, counts, strict=False) if not count]
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    where = f"all {looks}" if looks == len(dataset) else f"{looks} of {len(dataset)}"
    said = f"no pixel of {shown} in the training labels ({where} looked at): the student can't learn what it never sees"
    if dataset.num_classes - len(names) == 1:
        said += f"; they hold one class alone, and so every score will be 100 or 0 and mean nothing{RATHER}"
    elif (void := counts[IGNORE] / counts.sum()) > MUCH_VOID:
        said += f"; {100 * void:.0f} % of their pixels are void ({IGNORE}){RATHER}"
    return said


def class_frequencies(dataset: SegmentationDataset) -> list[float]:
    """The share of each class in the pixels of a split's labels, void's pixels counted too, so that it may lack to 1.

    Of a split of more than `COUNTED` labels, so many at equal distances are counted.
    """
    looks = min(len(dataset), COUNTED)
    counts = np.zeros(256, dtype=np.int64)
    for k in range(looks):
        counts += np.bincount(_label(dataset, k * len(dataset) // looks).ravel(), minlength=256)
    return [float(count / counts.sum()) for count in counts[: dataset.num_classes]]


def counted_once(dataset: SegmentationDataset) -> list[float]:
    """``class_frequencies``, counted the first time that a data set is asked for them."""
    source = dataset.dataset if isinstance(dataset, Tolerant) else dataset
    if source not in _COUNTED:
        _COUNTED[source] = class_frequencies(dataset)
    return _COUNTED[source]


def _label(dataset: SegmentationDataset, index: int) -> Array:
    """A label (H, W), also of a data set that is only like one of ours."""
    return dataset.label_of(index) if isinstance(dataset, SegmentationDataset) else dataset[index][1]
