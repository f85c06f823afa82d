"""What the header of an image file says: its size, how a pixel is stored, which side is up."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, TiffImagePlugin
from PIL.JpegImagePlugin import JpegImageFile

from segkd.errors import UserError

ORIENTATION = 0x0112  # of EXIF
WIDTH, HEIGHT, BITS, COLOURS, BANDS, PLANES, EXTRA, FORM = 256, 257, 258, 262, 277, 284, 338, 339  # tags of a TIFF
JPEG_HEAD = 1 << 17  # bytes within which EXIF stands
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # what such a file begins with; the last two of more than 4 GB
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error)  # as Pillow tells it


class PixelKind(NamedTuple):
    """How a file stores a pixel.

    bands: how many values, alpha included, which one may be.
    bits, floats: of each.
    planar: each band lies by itself.
    inverted: 0 is white.
    """

    bands: int = 3
    bits: int = 8
    floats: bool = False
    alpha: bool = False
    planar: bool = False
    inverted: bool = False

    @property
    def deep(self) -> bool:
        """Values beyond 0..255."""
        return self.floats or self.bits > 8

    @property
    def is_half(self) -> bool:
        """Floats of 16 bits."""
        return self.floats and self.bits == 16


def pixel_kind(path: Path, data: bytes) -> PixelKind:
    """What the header of a PNG or TIFF says; the kind of a JPEG for others."""
    if data.startswith(b"\x89PNG") and len(data) >= 26:
        bands = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(data[25], 3)
        return PixelKind(bands, data[24], False, data[25] in (4, 6))
    if not data.startswith(TIFF):
        return PixelKind()
    tags = _tiff_tags(path, data)
    try:
        bits, form, extra = tags.get(BITS, (1,)), tags.get(FORM, (1,)), tags.get(EXTRA, ())
        alpha = any(value in (1, 2) for value in extra)
        planar, inverted = tags.get(PLANES, 1) == 2, tags.get(COLOURS) == 0
        return PixelKind(int(tags.get(BANDS, 1)), max(bits), 3 in form, alpha, planar, inverted)
    except DAMAGE as error:
        raise UserError(describe_damage(path, "image")) from error


def image_size(path: Path, upright: bool = True) -> tuple[int, int]:
    """(H, W) of an image file, of its header alone, turned as its orientation tag says."""
    try:
        data = path.read_bytes()
        if data.startswith(TIFF):  # Pillow knows few kinds of them, and turns those
            tags = _tiff_tags(path, data)
            width, height = int(tags[WIDTH]), int(tags[HEIGHT])
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(data)) as picture:
                    width, height = picture.size
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise UserError(describe_damage(path, "image")) from error
    return (width, height) if upright and orientation(data) >= 5 else (height, width)


def _tiff_tags(path: Path, data: bytes) -> Mapping[int, Any]:
    """The tags of a TIFF's first page."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if data[2:4] in (b"+\0", b"\0+") else 8])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
    except DAMAGE as error:
        raise UserError(describe_damage(path, "image")) from error
    return tags


def orientation(data: bytes) -> int:
    """The orientation tag of an image file's content, 1 to 8; 1, upright, without any."""
    try:
        tag = int(_exif(data).get(ORIENTATION, 1))
    except (*DAMAGE, UserError):  # damaged tags are none
        return 1
    return tag if 1 <= tag <= 8 else 1


def _exif(data: bytes) -> Mapping[int, Any]:
    """The tags of an image file's content, without decoding it."""
    if data.startswith(TIFF):
        return _tiff_tags(Path(), data)
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
    if not data.startswith(b"\xff\xd8"):
        return {}
    with JpegImageFile(io.BytesIO(data)) as picture:  # Image.open refuses more than 179 megapixels
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


def describe_damage(path: Path, role: str) -> str:
    """The message for a file that cannot be decoded."""
    return f"{path}: cannot be read as {role} file; it is damaged or cut short, fetch it again"
