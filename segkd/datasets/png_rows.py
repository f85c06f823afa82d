"""An image that is decoded from its top no further than to the rows that a crop shows.

The rows of a PNG are packed one after the other, and unpacking them is most of what reading it takes: a crop of half
the height needs three quarters of them on average. A JPEG is small and fast as a whole.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segkd.datasets.base import Array, DataError
from segkd.datasets.image_files import COLOUR, orientation
from segkd.errors import UserError

SIGNATURE, HEAD = b"\x89PNG\r\n\x1a\n", 33  # bytes up to the end of the header
TRUECOLOUR = b"\x08\x02\x00\x00\x00"  # 8 bits, RGB, not interlaced
MOST = 1 << 26  # pixels; Pillow warns of more
WORTH = 0.93  # of the rows; nearly all of them are decoded by OpenCV in less time


class PngRows:
    """An image (H, W, 3) uint8 RGB of which ``image[rows, columns]`` takes a part, with slices that have an end.

    Only what is asked for is looked at: damage further down the file is found by a part that reaches it.

    Args:
        data: the content of a PNG.
        size: (H, W).
        whole: reads the image with all checks.
    """

    def __init__(self, data: bytes, size: tuple[int, int], whole: Callable[[], Array]) -> None:
        self.data, self.whole = data, whole
        self.shape = (*size, 3)

    def __getitem__(self, part: tuple[slice, slice]) -> Array:
        rows, columns = part
        end = min(rows.stop, self.shape[0])
        found = self._first(end) if end <= WORTH * self.shape[0] else None
        return (self._all() if found is None else found)[rows, columns]

    def _all(self) -> Array:
        if COLOUR != cv2.IMREAD_COLOR:
            flags = COLOUR | cv2.IMREAD_IGNORE_ORIENTATION
            found = cv2.imdecode(np.frombuffer(self.data, np.uint8), flags)
            if found is not None:
                return np.asarray(found, np.uint8)
        try:
            return self.whole()
        except UserError as error:
            raise DataError(str(error)) from error

    def _first(self, rows: int) -> Array | None:
        """So many rows from the top; None where the file is not as it should be, which ``whole`` can say in full."""
        head = b"IHDR" + self.data[16:20] + struct.pack(">I", rows) + self.data[24:29]  # as if there were no more
        shortened = self.data[:12] + head + struct.pack(">I", zlib.crc32(head)) + self.data[HEAD:]
        try:
            with Image.open(io.BytesIO(shortened), formats=("PNG",)) as picture:
                return np.frombuffer(picture.tobytes(), np.uint8).reshape(rows, *self.shape[1:])
        except (OSError, SyntaxError, ValueError):
            return None


def png_rows(path: Path, upright: bool, whole: Callable[[], Array]) -> PngRows | None:
    """The image of a file, by rows; None of one that is no plain 8-bit RGB PNG, upright and not too large.

    Args:
        upright: its orientation tag counts.
        whole: reads the image with all checks.
    """
    if path.suffix.lower() != ".png":
        return None
    try:
        data = path.read_bytes()
    except OSError:  # whoever reads all of it says it
        return None
    plain = data[:8] == SIGNATURE and data[24:29] == TRUECOLOUR and b"IEND" in data[-64:]
    if not plain or data[29:HEAD] != struct.pack(">I", zlib.crc32(data[12:29])) or (upright and orientation(data) != 1):
        return None
    width, height = struct.unpack(">II", data[16:24])
    return PngRows(data, (height, width), whole) if 0 < width * height <= MOST else None
