"""Label files as ids: masks of 1 to 16 bits with one channel, as they are; colours and damage named."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkd.datasets.image_files import quiet_opencv, read_bytes
from segkd.datasets.image_headers import TIFF, PixelKind, describe_damage, pixel_kind
from segkd.errors import UserError

Ids = NDArray[np.uint8] | NDArray[np.uint16]
RIGHT_LABEL = "save it as single-channel class ids"
JPEG = b"\xff\xd8"  # what such a file begins with
WHY_NOT_JPEG = "JPEG changes values, most along borders, so that they are no ids any more: save masks as PNG"


def read_label(path: Path) -> Ids:
    """The label map of a file as (H, W) ids as stored, uint8 or uint16.

    A single channel of 1 to 16 bits, the indices of a palette PNG, or grey that was saved as colours. The values of a
    file with 1, 2 or 4 bits are ids, too: 0 and 1 of a 1-bit mask.

    Raises:
        UserError: a damaged file, a JPEG, colours, other types of values.
    """
    return decode_label(read_bytes(path, "label"), path)


def decode_label(data: bytes, path: Path) -> Ids:
    """The label map of a file's content; ``path`` is what messages call it. See ``read_label``."""
    if data.startswith(JPEG):
        raise UserError(f"{path}: a label in JPEG cannot be read: {WHY_NOT_JPEG}")
    kind = pixel_kind(path, data) if data.startswith(TIFF) else PixelKind()
    if kind.inverted and kind.bits > 1:
        raise UserError(
            f"{path}: a label in a TIFF whose 0 is white (MinIsWhite) cannot be read: {RIGHT_LABEL}, as PNG"
        )
    depth, palette = png_kind(data)
    label: Any
    if palette or depth < 8:
        label = _by_pillow(path, data, 1 if palette else depth)
    else:
        with quiet_opencv():
            label = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if label is None and data.startswith(TIFF):  # as uncompressed tiles
        label = np.asarray(open_picture(path, data))
    if label is None:
        raise UserError(describe_damage(path, "label"))
    if label.ndim != 2:
        label = _grey(path, label)
    if label.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: label has type {label.dtype}; {RIGHT_LABEL} of 8 or 16 bits")
    return np.asarray(label > 0, np.uint8) if kind.bits == 1 else np.asarray(label)


def png_kind(data: bytes) -> tuple[int, bool]:
    """(bits per channel, whether it holds palette indices) from the PNG header; (8, False) for other formats."""
    if not data.startswith(b"\x89PNG") or len(data) < 26:
        return 8, False
    return data[24], data[25] == 3


def open_picture(path: Path, data: bytes) -> Image.Image:
    """A decoded Pillow image, however large; a UserError for what Pillow cannot decode."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data))
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(describe_damage(path, "label")) from error
    return picture


def _by_pillow(path: Path, data: bytes, depth: int) -> NDArray[np.uint8]:
    """Palette indices, or grey values of fewer than 8 bits, both of which OpenCV would change."""
    values = np.array(open_picture(path, data), dtype=np.uint8)
    stretched = 255 // (2**depth - 1) if depth in (2, 4) else 1  # as Pillow gives them
    return np.asarray(values // stretched, dtype=np.uint8)


def _grey(path: Path, label: Any) -> Any:
    """The only value of each pixel, of grey saved as colours (with alpha, too, where nothing is transparent)."""
    colours = label[..., :3] if label.shape[2] in (3, 4) else label[..., :1]
    opaque = label.shape[2] in (1, 3) or bool((label[..., -1] == np.iinfo(label.dtype).max).all())
    if not opaque or (colours != colours[..., :1]).any():
        raise UserError(
            f"{path}: label has {label.shape[2]} channels (a colour picture?); {RIGHT_LABEL}, or say which colour is "
            "which class: --data folder reads a labelmap.txt"
        )
    return colours[..., 0]
