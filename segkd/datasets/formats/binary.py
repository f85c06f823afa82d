"""Several binary masks per image, one for each class that is in it: ``labels/CLASS/NAME.png`` or ``NAME_CLASS.png``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from segkd.datasets.base import Array
from segkd.datasets.files import LABEL_SUFFIXES, LabelReader, Pair, UnknownLabelError, unknown_values, walk_files
from segkd.datasets.label_files import read_label
from segkd.datasets.legend import Legend
from segkd.errors import UserError

LOOKS = 50  # labels by whose names they are told from masks of all classes
Masks = dict[str, dict[str, Path]]  # name of an image -> class -> file


class BinaryReader(LabelReader):
    """Masks of 0 and one other value, of a class each; a later class lies over an earlier one, in the classes' order.

    Args:
        legend: of the classes; what no mask covers is its background.
        masks: what ``find_binary`` found.
    """

    def __init__(self, legend: Legend, masks: Masks) -> None:
        self.legend, self.masks = legend, masks

    def files(self, pair: Pair) -> Sequence[Path]:
        return tuple(self.masks[pair.key].values())

    def read(self, pair: Pair) -> Array:
        label = None
        own = self.masks[pair.key]
        for name, target in self.legend.by_name.items():
            if name not in own:
                continue
            mask = _mask(own[name])
            if label is None:
                label = np.full(mask.shape, self.legend.background, dtype=np.uint8)
            if mask.shape != label.shape:
                raise UserError(
                    f"{own[name]}: mask is {mask.shape[1]} x {mask.shape[0]} (width x height), others of the same "
                    f"image are {label.shape[1]} x {label.shape[0]}; they must be equal"
                )
            label[mask] = target
        assert label is not None  # find_binary lists no image without a mask
        return label


def _mask(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    stored: Any = read_label(path)
    values, counts = np.unique(stored, return_counts=True)
    if (values > 0).sum() > 1:
        shown = {str(v): int(n) for v, n in zip(values, counts, strict=True) if v not in (0, values[-1])}
        text = f"mask {unknown_values(shown)} beside 0 and {values[-1]}; a binary mask has two values, save it so"
        raise UnknownLabelError(f"{path}: {text}", stored.shape)
    return np.asarray(stored > 0)


def find_binary(folder: Path, names: Iterable[str]) -> Masks:
    """The masks below a folder: a folder for each class, or files whose names end in ``_CLASS`` or ``-CLASS``.

    Raises:
        UserError: a file or folder of no class; two masks of one image and class.
    """
    classes, found = list(names), Masks()
    for file in walk_files(folder, LABEL_SUFFIXES):
        relative = file.relative_to(folder).with_suffix("")
        first, stem = relative.parts[0], relative.as_posix()
        if len(relative.parts) > 1 and first in classes:
            own, name = first, stem.removeprefix(f"{first}/")
        else:
            ends = [one for one in classes if stem.endswith((f"_{one}", f"-{one}", f"/{one}"))]
            if not ends:
                raise UserError(
                    f"{file}: a binary mask of no class: it must lie in a folder called as its class is, or its name "
                    f"must end in _CLASS, of {', '.join(classes)}"
                )
            own = max(ends, key=len)
            name = stem[: -len(own) - 1]
        if own in found.setdefault(name, {}):
            raise UserError(f"two masks of class {own!r} for one image: {found[name][own]} and {file}; keep one")
        found[name][own] = file
    return found


def is_binary(folder: Path, names: Iterable[str]) -> bool:
    """True if a folder of labels holds a folder called as a class is, or files whose names end in those of several."""
    classes = list(names)
    if any((folder / name).is_dir() for name in classes):
        return True
    ends = set()
    for file in islice(walk_files(folder, LABEL_SUFFIXES), LOOKS):
        own = next((name for name in classes if file.stem.endswith((f"_{name}", f"-{name}"))), None)
        if own is None:
            return False
        ends.add(own)
    return len(ends) > 1
