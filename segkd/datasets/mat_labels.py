"""Label maps in MATLAB's files, as SBD and Pascal Context are distributed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkd.datasets.base import Array
from segkd.datasets.files import LabelReader, LabelTable, Pair
from segkd.datasets.image_files import read_bytes
from segkd.datasets.image_headers import describe_damage
from segkd.datasets.label_files import Ids
from segkd.errors import UserError


class MatLabels(LabelReader):
    """Reads the ids in a ``.mat`` file.

    Args:
        keys: the variable, and the fields within it, that hold the map.
        table: stored id -> class.
    """

    def __init__(self, keys: Sequence[str], table: LabelTable) -> None:
        self.keys, self.table = tuple(keys), table

    def read(self, pair: Pair) -> Array:
        return self.table.classes(pair, self._stored(pair.label))

    def _stored(self, path: Path) -> Ids:
        """The ids (H, W) as stored."""
        from scipy.io import loadmat  # type: ignore[import-untyped]  # here: other data needs none

        data = read_bytes(path, "label")
        try:
            found: Any = loadmat(io.BytesIO(data), squeeze_me=True, struct_as_record=False)
        except Exception as error:  # scipy tells damage by many kinds of error
            raise UserError(describe_damage(path, "label")) from error
        for key in self.keys:
            found = found.get(key) if isinstance(found, dict) else getattr(found, key, None)
        if getattr(found, "ndim", 0) != 2 or found.min(initial=0) < 0:
            raise UserError(f"{path} holds no map of ids in {'.'.join(self.keys)}: it is no label of this data set")
        return np.asarray(found, np.uint16) if found.max(initial=0) > 255 else np.asarray(found, np.uint8)
