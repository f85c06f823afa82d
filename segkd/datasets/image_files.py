"""Image files as arrays: any of eight orientations, more than 8 bits, damage named."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.JpegImagePlugin import JpegImageFile

from segkd.datasets.base import Array
from segkd.errors import UserError

ORIENTATION = 0x0112  # of EXIF
BANDS, BITS, FORM, EXTRA = 277, 258, 339, 338  # tags of a TIFF: of its samples
JPEG_HEAD = 1 << 17  # bytes within which it stands
COLOUR = getattr(cv2, "IMREAD_COLOR_RGB", cv2.IMREAD_COLOR)  # from OpenCV 4.11 on; BGR before
TIFF = (b"II*\0", b"MM\0*")  # what such a file begins with


def read_image(path: Path, upright: bool = True, white: float | None = None) -> Array:
    """The image of a file as (H, W, 3) uint8 RGB.

    Args:
        upright: turn it as its orientation tag says (EXIF, 1 to 8), as viewers and labelling tools do; else as stored.
        white: the value that is white, of files with more than 8 bits (4095 of 12-bit sensors, 65535) or with floats.

    Raises:
        UserError: a damaged file, another number of bands than 1 or 3 (and alpha, which is left out), more than 8 bits
            without ``white``.
    """
    return decode_image(read_bytes(path, "image"), path, upright, white)


def decode_image(data: bytes, path: Path, upright: bool = True, white: float | None = None) -> Array:
    """The image of a file's content; ``path`` is what messages call it. See ``read_image``."""
    stored = _pixel_kind(path, data)
    if stored.bands not in (1, 3) and not (stored.alpha and stored.bands in (2, 4)):
        raise UserError(f"{path}: image has {stored.bands} bands; it must have 3 (RGB) or 1 (grey): save those alone")
    deep = stored.floats or stored.bits > 8
    flags = (cv2.IMREAD_UNCHANGED if deep else COLOUR) | cv2.IMREAD_IGNORE_ORIENTATION
    found = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if found is None:
        raise UserError(describe_damage(path, "image"))
    if deep:
        found = _as_bytes(path, found, white)
    if deep or COLOUR == cv2.IMREAD_COLOR:
        found = cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
    rgb = np.asarray(found, dtype=np.uint8)
    tag = orientation(data)
    if data.startswith(TIFF):  # OpenCV turns these, whatever its flags say
        return rgb if upright else turned(rgb, {6: 8, 8: 6}.get(tag, tag))
    return turned(rgb, tag) if upright else rgb


def image_size(path: Path, upright: bool = True) -> tuple[int, int]:
    """(H, W) of an image file, of its header alone, turned as its orientation tag says."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            tag = orientation(path.read_bytes()) if upright else 1
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(describe_damage(path, "image")) from error
    return (width, height) if tag >= 5 else (height, width)


class PixelKind(NamedTuple):
    """How a file stores a pixel."""

    bands: int = 3
    bits: int = 8
    floats: bool = False
    alpha: bool = False


def _pixel_kind(path: Path, data: bytes) -> PixelKind:
    """What the header of a PNG or TIFF says; the kind of a JPEG for others."""
    if data.startswith(b"\x89PNG") and len(data) >= 26:
        bands = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(data[25], 3)
        return PixelKind(bands, data[24], False, data[25] in (4, 6))
    if not data.startswith(TIFF):
        return PixelKind()
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        bits, form = tags.get(BITS, (8,)), tags.get(FORM, (1,))
        return PixelKind(int(tags.get(BANDS, 1)), max(bits), 3 in form, any(v in (1, 2) for v in tags.get(EXTRA, ())))
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error) as error:
        raise UserError(describe_damage(path, "image")) from error


def _as_bytes(path: Path, stored: Any, white: float | None) -> Any:
    """Deep pixels (H, W) or (H, W, C), BGR, as (H, W, 3) uint8."""
    if white is None:
        kind = "floating-point" if stored.dtype.kind == "f" else f"{8 * stored.dtype.itemsize}-bit"
        raise UserError(
            f"{path}: image has {kind} pixels, up to {stored.max():g}: say which value is white (white=4095 for 12 "
            "bits, 65535 for 16, 1.0), or save it with 8 bits"
        )
    colours = np.repeat(stored[..., None], 3, 2) if stored.ndim == 2 else stored[..., :3]
    return np.clip(colours.astype(np.float64) * (255 / white), 0, 255).round().astype(np.uint8)


def orientation(data: bytes) -> int:
    """The orientation tag of an image file's content, 1 to 8; 1, upright, without any."""
    try:
        tag = int(_exif(data).get(ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, TypeError, struct.error):  # damaged tags are none
        return 1
    return tag if 1 <= tag <= 8 else 1


def _exif(data: bytes) -> Mapping[int, Any]:
    """The tags of an image file's content, without decoding it."""
    if data.startswith(b"\x89PNG"):
        tags = Image.Exif()
        tags.load(_png_chunk(data, b"eXIf"))
        return tags
    if data.startswith(b"\xff\xd8") and data.find(b"Exif\0\0", 0, JPEG_HEAD) < 0:  # as most photographs of data sets
        return {}
    if data.startswith(b"RIFF"):
        tags = Image.Exif()
        tags.load(_webp_chunk(data, b"EXIF"))
        return tags
    opener = TiffImagePlugin.TiffImageFile if data.startswith(TIFF) else JpegImageFile
    if opener is JpegImageFile and not data.startswith(b"\xff\xd8"):
        return {}
    with opener(io.BytesIO(data)) as picture:  # Image.open refuses more than 179 megapixels
        return picture.getexif()


def _webp_chunk(data: bytes, kind: bytes) -> bytes:
    """The content of the first chunk of that kind, b"" without one."""
    at = 12
    while at + 8 <= len(data):
        (length,) = struct.unpack("<I", data[at + 4 : at + 8])
        if data[at : at + 4] == kind:
            return data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return b""


def _png_chunk(data: bytes, kind: bytes) -> bytes:
    """The content of the first chunk of that kind, b"" without one."""
    at = 8
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == kind:
            return data[at + 8 : at + 8 + length]
        at += 12 + length
    return b""


def turned(image: Array, tag: int) -> Array:
    """An image (H, W, 3) as its orientation tag wants it seen (EXIF 2.3, 4.6.4)."""
    if tag in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    down, right = tag in (3, 4, 7, 8), tag in (2, 3, 6, 7)
    return np.ascontiguousarray(image[:: -1 if down else 1, :: -1 if right else 1])


def describe_damage(path: Path, role: str) -> str:
    """The message for a file that cannot be decoded."""
    return f"{path}: cannot be read as {role} file; it is damaged or cut short, fetch it again"


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
