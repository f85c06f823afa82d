"""Image files as arrays: any of eight orientations, more than 8 bits, more than 3 bands; damage named."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from segkd import arguments
from segkd.datasets.base import RGB, Array
from segkd.datasets.image_headers import TIFF, PixelKind, describe_damage, orientation, pixel_kind
from segkd.errors import UserError, first_line

COLOUR = getattr(cv2, "IMREAD_COLOR_RGB", cv2.IMREAD_COLOR)  # from OpenCV 4.11 on; BGR before
MOST = 512  # bands that OpenCV resizes
BACK = {6: 8, 8: 6}  # orientation -> the one that undoes it; others undo themselves


def read_image(path: Path, upright: bool = True, white: float | None = None, channels: int = RGB) -> Array:
    """The image of a file as (H, W, channels) uint8, the first three RGB.

    Args:
        upright: turn it as its orientation tag says (EXIF, 1 to 8), as viewers and labelling tools do; else as stored.
        white: the value that is white, of files with more than 8 bits (4095 of 12-bit sensors, 65535) or with floats.
        channels: 3, which grey becomes, too, and without an alpha that there is; of more, all bands of the file, an
            alpha among them.

    Raises:
        UserError: a damaged file, another number of bands, more than 8 bits without ``white``.
    """
    return decode_image(read_bytes(path, "image"), path, upright, white, channels)


def decode_image(
    data: bytes, path: Path, upright: bool = True, white: float | None = None, channels: int = RGB
) -> Array:
    """The image of a file's content; ``path`` is what messages call it. See ``read_image``."""
    kind = pixel_kind(path, data)
    _check_bands(path, kind, channels)
    stored, is_upright = _decoded(data, path, kind, channels)
    if kind.deep:
        stored = _as_bytes(path, stored, white)
    if channels == RGB:
        stored = np.repeat(stored[..., :1], RGB, 2) if stored.shape[2] < RGB else stored[..., :RGB]
    image = np.asarray(stored, np.uint8, order="C")
    tag = orientation(data)
    if is_upright:
        return image if upright else turned(image, BACK.get(tag, tag))
    return turned(image, tag) if upright else image


def check_channels(given: Any, owner: str) -> int:
    """A number of bands that images can be read with."""
    channels = arguments.integer(given, "channels", owner, RGB)
    if channels > MOST:
        raise UserError(f"{owner}: channels is at most {MOST}, got {channels}")
    return channels


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """A context in which OpenCV says nothing: whether it worked is asked of it."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _check_bands(path: Path, kind: PixelKind, channels: int) -> None:
    if channels != RGB:
        if kind.bands != channels:
            raise UserError(f"{path}: image has {kind.bands} bands, not the {channels} of channels={channels}")
    elif kind.bands not in (1, RGB) and not (kind.alpha and kind.bands in (2, 4)):
        more = (
            f", or read them all: channels={kind.bands} (--set data.dataset.channels={kind.bands})"
            if kind.bands > RGB
            else ""
        )
        raise UserError(
            f"{path}: image has {kind.bands} bands; it must have 3 (RGB) or 1 (grey): save those alone{more}"
        )


def _decoded(data: bytes, path: Path, kind: PixelKind, channels: int) -> tuple[Any, bool]:
    """Pixels (H, W, C) as stored, RGB and what else there is; and whether they are upright already."""
    if data.startswith(TIFF):  # OpenCV and Pillow turn these, whatever flags say
        if kind.bands > 4 or (kind.deep and (kind.bands == 2 or (kind.planar and kind.bands > 1))) or kind.is_half:
            return _by_tifffile(data, path, kind), False
        if kind.bands in (2, 4) and not kind.deep:  # OpenCV multiplies colours by alpha
            return _by_pillow(data, path), True
    whole = kind.deep or channels != RGB
    flags = (cv2.IMREAD_UNCHANGED if whole else COLOUR) | cv2.IMREAD_IGNORE_ORIENTATION
    with quiet_opencv():
        found = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if found is None and data.startswith(TIFF) and not kind.deep:  # as uncompressed tiles
        return _by_pillow(data, path), True
    if found is None:
        raise UserError(describe_damage(path, "image"))
    found = found[..., None] if found.ndim == 2 else found
    if found.shape[2] >= RGB and (whole or COLOUR == cv2.IMREAD_COLOR):
        found = found[..., [2, 1, 0, *range(RGB, found.shape[2])]]
    return found, data.startswith(TIFF)


def _by_pillow(data: bytes, path: Path) -> Any:
    """A TIFF of 8 bits and up to 4 bands."""
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as picture:
            found = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(describe_damage(path, "image")) from error
    return found[..., None] if found.ndim == 2 else found


def _by_tifffile(data: bytes, path: Path, kind: PixelKind) -> Any:
    """A TIFF of many bands, of grey with alpha, or with each band by itself, which OpenCV does not read or mixes up."""
    try:
        import tifffile  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        what = f"{kind.bands} bands" if kind.bands > 4 else "such pixels"
        raise UserError(f'{path}: a TIFF with {what} needs tifffile: pip install "segkd[bands]"') from error
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what it cannot read, it raises
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            found = file.pages[0].asarray()
    except Exception as error:  # its own, those of codecs, or ValueError with a package's name
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error
    finally:
        logger.setLevel(level)
    found = found[..., None] if found.ndim == 2 else found
    return np.moveaxis(found, 0, -1) if kind.planar and kind.bands > 1 else found


def _as_bytes(path: Path, stored: Any, white: float | None) -> Any:
    """Deep pixels (H, W, C) as uint8."""
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        raise UserError(f"{path}: image has pixels without a value (NaN or infinite): fill them in, and save it anew")
    if white is None:
        kind = "floating-point" if stored.dtype.kind == "f" else f"{8 * stored.dtype.itemsize}-bit"
        raise UserError(
            f"{path}: image has {kind} pixels, up to {stored.max():g}: say which value is white (white=4095 for "
            "12 bits, 65535 for 16, 1.0), or save it with 8 bits"
        )
    return np.clip(stored.astype(np.float64) * (255 / white), 0, 255).round().astype(np.uint8)


def turned(image: Array, tag: int) -> Array:
    """An image (H, W, C) as its orientation tag wants it seen (EXIF 2.3, 4.6.4)."""
    if tag in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    down, right = tag in (3, 4, 7, 8), tag in (2, 3, 6, 7)
    return np.ascontiguousarray(image[:: -1 if down else 1, :: -1 if right else 1])


def visible(image: Array) -> Array:
    """What can be shown of an image (H, W, C): its first three bands."""
    return image if image.shape[2] == RGB else np.ascontiguousarray(image[..., :RGB])


def read_bytes(path: Path, role: str) -> bytes:
    """A file's content; a missing, empty or cut-short file is a UserError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: the {role} cannot be read ({error.strerror})") from error
    return whole(data, path, role)


def whole(data: bytes, path: Path, role: str) -> bytes:
    """A file's content as it is, unless it is empty or cut short: that is a UserError."""
    if not data or _truncated(data):  # checked before decoding: the decoders would print warnings of their own
        raise UserError(describe_damage(path, role))
    return data


def _truncated(data: bytes) -> bool:
    """Whether a PNG or JPEG lacks its end mark (older OpenCV fills what is missing with grey)."""
    if data.startswith(b"\x89PNG"):
        return data.rfind(b"IEND") < 0
    if data.startswith(b"\xff\xd8"):
        # Start-of-scan and end-of-image marks cannot occur inside compressed data; an embedded thumbnail comes before.
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    return False
