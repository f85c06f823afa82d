"""Masks, one file per image: ids, palette PNGs, or colours that stand for classes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from segkd.datasets.base import IGNORE, Array
from segkd.datasets.files import UNKNOWN, LabelReader, Pair, UnknownLabelError, unknown_values
from segkd.datasets.image_files import read_bytes
from segkd.datasets.image_headers import describe_damage
from segkd.datasets.label_files import JPEG, open_picture, png_kind
from segkd.datasets.legend import Legend
from segkd.datasets.png_rows import PngRows
from segkd.errors import UserError


class MaskReader(LabelReader):
    """Masks of ids; where the legend has colours, also masks in those, as RGB or in the palette of a PNG."""

    def __init__(self, legend: Legend) -> None:
        self.legend, self.table = legend, legend.table()

    def read(self, pair: Pair) -> Array:
        colours = self._colours(pair) if self.legend.colours and not self.legend.mapped else None
        return self.table.read(pair) if colours is None else self._classes(pair, colours)

    def by_rows(self, pair: Pair) -> Array | PngRows:
        ids_alone = type(self) is MaskReader and (not self.legend.colours or self.legend.mapped)
        return self.table.by_rows(pair) if ids_alone else self.read(pair)

    def _colours(self, pair: Pair) -> Any:
        """The colours (H, W, 3) RGB of a mask; None for one that holds ids."""
        data = read_bytes(pair.label, "label")
        if data.startswith(JPEG):
            return None  # refused with the reason where ids are read
        if png_kind(data)[1]:
            return np.array(open_picture(pair.label, data).convert("RGB"))
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        if found is None:
            raise UserError(describe_damage(pair.label, "label"))
        if found.ndim != 3 or found.dtype != np.uint8 or found.shape[2] not in (3, 4):
            return None
        if found.shape[2] == 4 and (found[..., 3] != 255).any():
            raise UserError(f"{pair.label}: the mask is transparent in parts, which is no class: save it without alpha")
        return cv2.cvtColor(found[..., :3], cv2.COLOR_BGR2RGB)

    def _classes(self, pair: Pair, colours: Any) -> Array:
        packed = _packed(colours)
        keys = np.array([_pack(colour) for colour in self.legend.colours], dtype=np.int32)
        targets = np.array(list(self.legend.colours.values()), dtype=np.uint8)
        order = np.argsort(keys)
        place = np.minimum(np.searchsorted(keys[order], packed), len(keys) - 1)
        label = np.where(keys[order][place] == packed, targets[order][place], np.uint8(UNKNOWN))
        if (label == UNKNOWN).any():
            raise UnknownLabelError(self._problem(pair, packed[label == UNKNOWN]), label.shape)
        return np.asarray(label, dtype=np.uint8)

    def _problem(self, pair: Pair, packed: Any) -> str:
        values, counts = np.unique(packed, return_counts=True)
        shown = {f"{v >> 16},{v >> 8 & 255},{v & 255}": int(n) for v, n in zip(values, counts, strict=True)}
        return (
            f"{pair.label}: label {unknown_values(shown, 'colour')} of no class (R,G,B): name it in the class list, or "
            f"make it void by ignore='#{values[0]:06x}'; known are {_known(self.legend)}"
        )


def _known(legend: Legend) -> str:
    names = [(*legend.names, "void")[len(legend.names) if k == IGNORE else k] for k in legend.colours.values()]
    pairs = [f"{','.join(map(str, colour))} {name}" for colour, name in zip(legend.colours, names, strict=True)]
    return "; ".join(pairs[:8]) + (", ..." if len(pairs) > 8 else "")


def _pack(colour: tuple[int, int, int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _packed(colours: Any) -> Any:
    """(H, W, 3) uint8 RGB -> (H, W) int32, a number for each colour."""
    wide = colours.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
