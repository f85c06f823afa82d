"""Images of more than 8 bits, with more than 3 bands, with floats: scaled as is said, or refused by what they are."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from segkd.datasets import create
from segkd.datasets.image_files import read_image
from segkd.errors import UserError


def tiff(pixels: NDArray[np.generic], extra: int = 0) -> bytes:
    """A plain TIFF (H, W, bands), as its specification (6.0) has it; ``extra``: what bands above 3 are, 2 is alpha."""
    (height, width, bands), bits = pixels.shape, 8 * pixels.dtype.itemsize
    form, data = {"u": 1, "f": 3}[pixels.dtype.kind], pixels.tobytes()
    tags = {256: width, 257: height, 258: [bits] * bands, 259: 1, 262: 2 if bands > 2 else 1, 273: 8, 277: bands}
    tags |= {
        278: height,
        279: len(data),
        284: 1,
        **({338: [extra] * (bands - 3)} if bands > 3 else {}),
        339: [form] * bands,
    }
    entries, beyond, place = b"", b"", 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, value in tags.items():
        if isinstance(value, int):
            entries += struct.pack("<HHII", tag, 4, 1, value)
            continue
        packed = struct.pack(f"<{len(value)}H", *value)
        if len(packed) > 4:
            entries += struct.pack("<HHII", tag, 3, len(value), place + len(beyond))
            beyond += packed
        else:
            entries += struct.pack("<HHI", tag, 3, len(value)) + packed.ljust(4, b"\0")
    return (
        struct.pack("<2sHI", b"II", 42, 8 + len(data))
        + data
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
        + beyond
    )


def noise(bands: int, largest: int, dtype: type[np.generic]) -> NDArray[np.generic]:
    return np.random.default_rng(0).integers(0, largest + 1, (24, 32, bands)).astype(dtype)


def test_twelve_bits_in_sixteen_are_as_bright_as_they_were(tmp_path: Path) -> None:
    deep = noise(3, 4095, np.uint16)
    want = (deep * (255 / 4095)).round()
    (tmp_path / "deep.tif").write_bytes(tiff(deep))
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    cv2.imwrite(str(tmp_path / "grey.png"), deep[..., 0])
    for name in ("deep.tif", "deep.png"):
        with pytest.raises(UserError, match=rf"{name}: image has 16-bit pixels, up to 409\d: say which value is white"):
            read_image(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name, white=4095), want)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png", white=4095), np.repeat(want[..., :1], 3, 2))
    whole = noise(3, 65535, np.uint16)
    (tmp_path / "whole.tif").write_bytes(tiff(whole))
    np.testing.assert_array_equal(read_image(tmp_path / "whole.tif", white=65535), (whole / 257).round())
    np.testing.assert_array_equal(read_image(tmp_path / "whole.tif", white=4095).max(), 255)


def test_floats(tmp_path: Path) -> None:
    values = (noise(3, 1000, np.float32) / 1000).astype(np.float32)
    (tmp_path / "f.tiff").write_bytes(tiff(values))
    with pytest.raises(UserError, match=r"f.tiff: image has floating-point pixels, up to (0.99|1)"):
        read_image(tmp_path / "f.tiff")
    assert np.abs(read_image(tmp_path / "f.tiff", white=1.0) - 255 * values).max() <= 0.51


def test_bands(tmp_path: Path) -> None:
    colours = noise(3, 255, np.uint8)
    (tmp_path / "3.tif").write_bytes(tiff(colours))
    np.testing.assert_array_equal(read_image(tmp_path / "3.tif"), colours)
    for bands in (4, 5):
        (tmp_path / "more.tif").write_bytes(tiff(noise(bands, 255, np.uint8)))
        with pytest.raises(UserError, match=rf"more.tif: image has {bands} bands; it must have 3 "):
            read_image(tmp_path / "more.tif")
    clear = np.dstack([colours, np.full((24, 32), 255, np.uint8)])
    (tmp_path / "alpha.tif").write_bytes(tiff(clear, extra=2))
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.tif"), colours)


def test_a_folder_says_which_value_is_white(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    deep = noise(3, 4095, np.uint16)
    (tmp_path / "images" / "a.tif").write_bytes(tiff(deep))
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(tmp_path / "labels" / "a.png")
    arguments = dict(images=tmp_path / "images", labels=tmp_path / "labels", class_names=["one", "two"])
    assert create("folder", **arguments, white=4095)[0].image.max() == 255
    with pytest.raises(UserError, match="say which value is white"):
        create("folder", **arguments)[0]
    with pytest.raises(UserError, match="white"):
        create("folder", **arguments, white=0)
