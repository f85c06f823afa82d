"""An image or label that is decoded from its top no further than to the rows that a crop shows.

The rows of a PNG are packed one after the other, and unpacking them is most of what reading it takes: a crop of half
the height needs three quarters of them on average. A JPEG is small and fast as a whole.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segkd.datasets.base import Array, DataError
from segkd.datasets.image_headers import orientation
from segkd.errors import UserError

SIGNATURE, HEAD = b"\x89PNG\r\n\x1a\n", 33  # bytes up to the end of the header
COLOURS, IDS = ((2, 3),), ((0, 1), (3, 1))  # kinds of PNGs, and their bands: RGB; grey, palette
MOST = 1 << 26  # pixels; Pillow warns of more
WORTH = 0.93  # of the rows; nearly all of them are decoded by OpenCV in less time


class PngRows:
    """An image (H, W, 3) or label (H, W), uint8, of which ``image[rows, columns]`` takes a part, by slices with an end.

    Only what is asked for is looked at: damage further down the file is found by a part that reaches it.

    Args:
        data: the content of a PNG.
        shape: of the whole.
        whole: reads it with all checks.
        finish: what is done to rows that were read.
    """

    def __init__(
        self, data: bytes, shape: tuple[int, ...], whole: Callable[[], Array], finish: Callable[[Array], Array] | None
    ) -> None:
        self.data, self.shape, self.whole, self.finish = data, shape, whole, finish

    def __getitem__(self, part: tuple[slice, slice]) -> Array:
        rows, columns = part
        end = min(rows.stop, self.shape[0])
        try:
            found = self._first(end) if end <= WORTH * self.shape[0] else None
            return (self.whole() if found is None else found)[rows, columns]
        except UserError as error:
            raise DataError(str(error)) from error

    def _first(self, rows: int) -> Array | None:
        """So many rows from the top; None where the file is not as it should be, which ``whole`` can say in full."""
        head = b"IHDR" + self.data[16:20] + struct.pack(">I", rows) + self.data[24:29]  # as if there were no more
        shortened = b"".join((self.data[:12], head, struct.pack(">I", zlib.crc32(head)), memoryview(self.data)[HEAD:]))
        try:
            with Image.open(io.BytesIO(shortened), formats=("PNG",)) as picture:
                found = np.frombuffer(picture.tobytes(), np.uint8).reshape(rows, *self.shape[1:])
                return found if self.finish is None else self.finish(found)
        except (OSError, SyntaxError, ValueError, UserError):
            return None


def png_rows(
    path: Path,
    whole: Callable[[], Array],
    kinds: Sequence[tuple[int, int]] = COLOURS,
    upright: bool = False,
    finish: Callable[[Array], Array] | None = None,
) -> PngRows | None:
    """The content of a file, by rows; None of one that is no plain 8-bit PNG of these kinds, and not too large.

    Args:
        whole: reads it with all checks.
        kinds: ``COLOURS`` or ``IDS``.
        upright: its orientation tag counts, and must be 1.
        finish: what is done to rows that were read; a UserError of it is for ``whole`` to say in full.
    """
    if path.suffix.lower() != ".png":
        return None
    try:
        data = path.read_bytes()
    except OSError:  # whoever reads all of it says it
        return None
    if (
        data[:8] != SIGNATURE
        or b"IEND" not in data[-64:]
        or data[29:HEAD] != struct.pack(">I", zlib.crc32(data[12:29]))
    ):
        return None
    bands = dict(kinds).get(data[25])
    if bands is None or data[24] != 8 or any(data[26:29]) or (upright and orientation(data) != 1):  # interlaced
        return None
    width, height = struct.unpack(">II", data[16:24])
    shape = (height, width, bands) if bands > 1 else (height, width)
    return PngRows(data, shape, whole, finish) if 0 < width * height <= MOST else None
