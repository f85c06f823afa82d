"""Data sets made of image and label files: pairing, reading, and label ids -> classes, with every error named."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from segkd.datasets.base import IGNORE, Array, Sample, SegmentationDataset
from segkd.errors import UserError

ORIENTATION = 0x0112  # of EXIF
BANDS, BITS, FORM, EXTRA = 277, 258, 339, 338  # tags of a TIFF: of its samples
JPEG_HEAD = 1 << 17  # bytes within which it stands
TIFF = (b"II*\0", b"MM\0*")  # what such a file begins with
UNKNOWN = 254  # marks, in a label table, the ids that no file may hold
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
RIGHT_LABEL = "save it as 8-bit single-channel class ids"


class Pair(NamedTuple):
    """An image file and its label file under one name."""

    name: str
    image: Path
    label: Path


class LabelTable:
    """Label ids as stored (0..255) -> classes 0..K-1 and 255 = ignore.

    Args:
        ids: stored id -> class, or 255; all other ids are unknown, and a file that holds one is a UserError.
        right: the sentence part that says what a label file should hold.
    """

    def __init__(self, ids: Mapping[int, int], right: str) -> None:
        self.right = right
        self.lut = np.full(256, UNKNOWN, dtype=np.uint8)
        for stored, target in ids.items():
            if not 0 <= stored <= 255 or not (0 <= target < UNKNOWN or target == IGNORE):
                raise UserError(f"label map {stored} -> {target}: ids are 0..255, classes 0..{UNKNOWN - 1} or {IGNORE}")
            self.lut[stored] = target

    def __call__(self, stored: Array) -> Array:
        """The classes (H, W) of stored ids (H, W); in them 254 marks the unknown ids."""
        return np.asarray(cv2.LUT(stored, self.lut), dtype=np.uint8)

    def unknown(self, stored: Array) -> list[int]:
        """The ids in ``stored`` that the table does not know."""
        return [int(value) for value in np.unique(stored) if self.lut[value] == UNKNOWN]


def identity_table(num_classes: int, void: int = IGNORE) -> LabelTable:
    """A table whose stored ids are the classes themselves; ``void`` and 255 are ignored."""
    ids = {k: k for k in range(num_classes)} | {void: IGNORE, IGNORE: IGNORE}
    voids = f"{void} or {IGNORE}" if void != IGNORE else str(IGNORE)
    return LabelTable(ids, f"the class ids 0..{num_classes - 1}, and {voids} for void")


class FilePairs(SegmentationDataset):
    """A data set of files: ``pairs`` read in order, label ids through ``table``.

    Args:
        images, labels: name -> file on either side (see ``list_files``).
        table: label ids -> classes.
        source: how messages call this data set.
        check: an image without label, or a label without image, is a UserError; else it is only listed in ``unpaired``.
        upright, white: see ``read_image``.
    """

    def __init__(
        self,
        images: Mapping[str, Path],
        labels: Mapping[str, Path],
        table: LabelTable,
        source: str,
        check: bool = True,
        upright: bool = True,
        white: float | None = None,
    ) -> None:
        self.table, self.upright, self.white = table, upright, white
        self.source = source
        self.pairs = [Pair(name, images[name], labels[name]) for name in sorted(images.keys() & labels.keys())]
        self.unpaired = [f"{images[n]}: no label file {_expected(n, labels)}" for n in sorted(images.keys() - labels)]
        self.unpaired += [f"{labels[n]}: no image file {_expected(n, images)}" for n in sorted(labels.keys() - images)]
        if check and self.unpaired:
            more = f" (and {len(self.unpaired) - 1} more; `verify` lists all)" if len(self.unpaired) > 1 else ""
            raise UserError(f"{source}: {self.unpaired[0]}{more}")
        if not images and not labels:
            raise UserError(f"{source} is empty: no image and no label file found")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self.pairs[index]
        image, stored = read_image(pair.image, self.upright, self.white), read_label(pair.label)
        if image.shape[:2] != stored.shape:
            raise UserError(size_problem(pair, image, stored))
        return Sample(image, self._classes(pair, stored))

    def label_of(self, index: int) -> Array:
        pair = self.pairs[index]
        return self._classes(pair, read_label(pair.label))

    def _classes(self, pair: Pair, stored: Array) -> Array:
        label = self.table(stored)
        if (label == UNKNOWN).any():
            raise UserError(label_problem(pair, stored, self.table))
        return label

    def name_of(self, index: int) -> str:
        return self.pairs[index].name


def size_problem(pair: Pair, image: Array, stored: Array) -> str:
    """The message for a label (h, w) that is not of the size of its image (H, W, 3)."""
    (h, w), (k, m) = image.shape[:2], stored.shape
    tag = orientation(pair.image.read_bytes())
    turned = f" (orientation tag {tag}; upright=False reads it as stored)" if tag > 1 else ""
    return (
        f"{pair.label}: label is {m} x {k} (width x height), its image {pair.image} is {w} x {h}{turned}; they must be "
        "equal"
    )


def label_problem(pair: Pair, stored: Array, table: LabelTable) -> str:
    """The message for stored ids (H, W) some of which the table does not know."""
    values = table.unknown(stored)
    shown = ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
    count = int(np.isin(stored, values).sum())
    word = "value" if len(values) == 1 else "values"
    return f"{pair.label}: label {word} {shown} ({count} pixels) outside the classes; a label holds {table.right}"


def read_image(path: Path, upright: bool = True, white: float | None = None) -> Array:
    """The image of a file as (H, W, 3) uint8 RGB.

    Args:
        upright: turn it as its orientation tag says (EXIF, 1 to 8), as viewers and labelling tools do; else as stored.
        white: the value that is white, of files with more than 8 bits (4095 of 12-bit sensors, 65535) or with floats.

    Raises:
        UserError: a damaged file, another number of bands than 1 or 3 (and alpha, which is left out), more than 8 bits
            without ``white``.
    """
    data = _read_bytes(path, "image")
    stored = _pixel_kind(path, data)
    if stored.bands not in (1, 3) and not (stored.alpha and stored.bands in (2, 4)):
        raise UserError(f"{path}: image has {stored.bands} bands; it must have 3 (RGB) or 1 (grey): save those alone")
    deep = stored.floats or stored.bits > 8
    flags = (cv2.IMREAD_UNCHANGED if deep else cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if bgr is None:
        raise UserError(describe_damage(path, "image"))
    if deep:
        bgr = _as_bytes(path, bgr, white)
    rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    tag = orientation(data)
    if data.startswith(TIFF):  # OpenCV turns these, whatever its flags say
        return rgb if upright else turned(rgb, {6: 8, 8: 6}.get(tag, tag))
    return turned(rgb, tag) if upright else rgb


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
    with Image.open(io.BytesIO(data)) as picture:
        return picture.getexif()


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


def read_label(path: Path) -> Array:
    """The label map of a file as (H, W) uint8 ids as stored: 8-bit single-channel, or the indices of a palette PNG."""
    data = _read_bytes(path, "label")
    depth, palette = _png_kind(data)
    if depth < 8 and not palette:
        # OpenCV would stretch the values to 0..255, and a 1 of a 1-bit file to 255 = ignore.
        raise UserError(f"{path}: label has {depth}-bit pixels; {RIGHT_LABEL}")
    label = _palette_indices(data) if palette else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if label is None:
        raise UserError(describe_damage(path, "label"))
    if label.ndim != 2:
        raise UserError(f"{path}: label has {label.shape[2]} channels (a colour picture?); {RIGHT_LABEL}")
    if label.dtype != np.uint8:
        raise UserError(f"{path}: label has type {label.dtype}; {RIGHT_LABEL}")
    return np.asarray(label, dtype=np.uint8)


def list_files(folder: Path, suffixes: Sequence[str], ending: str = "") -> dict[str, Path]:
    """The files of ``folder`` that end in ``ending`` + one of ``suffixes``, by name; hidden files are left out.

    The name is the file's without both. A missing folder, or two files of one name, is a UserError.
    """
    if not folder.is_dir():
        raise UserError(f"folder not found: {folder}")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in suffixes or not file.stem.endswith(ending) or file.name.startswith("."):
            continue
        name = file.stem.removesuffix(ending)
        if name in found:
            raise UserError(f"two files for one name: {found[name]} and {file.name}; keep one")
        found[name] = file
    return found


def existing_root(root: str | Path, source: str) -> Path:
    """``root`` as a folder that exists, else a UserError."""
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"{source}: root folder not found: {folder}")
    return folder


def check_split(split: str, known: Sequence[str], source: str) -> str:
    """``split`` if it is among ``known``, else a UserError that lists them."""
    if split not in known:
        raise UserError(f"{source} has no split {split!r}; there is: {', '.join(known)}")
    return split


def _expected(name: str, others: Mapping[str, Path]) -> str:
    """The file name that the missing partner of ``name`` should have."""
    if not others:
        return f"of the name {name!r}"
    model_name, model = next(iter(others.items()))
    return repr(model.name.replace(Path(model_name).name, Path(name).name))


def describe_damage(path: Path, role: str) -> str:
    """The message for a file that cannot be decoded."""
    return f"{path}: cannot be read as {role} file; it is damaged or cut short, fetch it again"


def _read_bytes(path: Path, role: str) -> bytes:
    """A file's content; a missing, empty or cut-short file is a UserError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: the {role} cannot be read ({error.strerror})") from error
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


def _png_kind(data: bytes) -> tuple[int, bool]:
    """(bits per channel, whether it holds palette indices) from the PNG header; (8, False) for other formats."""
    if not data.startswith(b"\x89PNG") or len(data) < 26:
        return 8, False
    return data[24], data[25] == 3


def _palette_indices(data: bytes) -> Array | None:
    """The indices of a palette PNG (OpenCV would expand them to colours); None if it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.array(picture, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError):
        return None
