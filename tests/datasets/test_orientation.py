"""Photographs with an orientation tag are read upright, all eight of them, as Pillow turns them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from segkd.datasets import create
from segkd.datasets.image_files import read_image
from segkd.datasets.image_headers import orientation
from segkd.datasets.unlabelled import ImageFolder
from segkd.datasets.verify import verify
from segkd.errors import UserError


def tagged(path: Path, tag: int, size: tuple[int, int] = (24, 40)) -> np.ndarray:
    """Write a picture with an orientation tag; its pixels as they are stored."""
    blocks = np.random.default_rng(tag).integers(0, 256, (3, 5, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(blocks).resize(size[::-1], Image.Resampling.NEAREST))
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(pixels).save(
        path, exif=exif, **({"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {})
    )
    return pixels


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_as_pillow_turns_it(tmp_path: Path, tag: int, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    stored = tagged(path, tag)
    picture = Image.fromarray(stored)
    picture.getexif()[0x0112] = tag
    want = np.asarray(ImageOps.exif_transpose(picture))
    got = read_image(path)
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want).mean() < 15  # lossy ones differ by a few units
    assert np.abs(read_image(path, upright=False).astype(int) - stored).mean() < 15
    assert orientation(path.read_bytes()) == tag
    if tag > 1:
        assert want.shape != stored.shape or np.abs(got.astype(int) - stored).mean() > 20


def test_a_tag_out_of_range_or_damaged_is_none(tmp_path: Path) -> None:
    stored = tagged(tmp_path / "odd.jpg", 9)
    np.testing.assert_array_equal(read_image(tmp_path / "odd.jpg").shape, stored.shape)
    assert orientation(b"\xff\xd8 no picture with Exif\0\0 in it") == 1


def test_labels_are_of_the_upright_picture(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    tagged(tmp_path / "images" / "a.jpg", 6)
    Image.fromarray(np.zeros((40, 24), np.uint8)).save(tmp_path / "labels" / "a.png")
    arguments = dict(images=tmp_path / "images", labels=tmp_path / "labels", class_names=["one", "two"])
    data = create("folder", **arguments)
    assert data[0].image.shape == (40, 24, 3)
    assert verify(data) == []
    assert ImageFolder(tmp_path / "images")[0].shape == (40, 24, 3)
    stored = create("folder", **arguments, upright=False)
    with pytest.raises(UserError, match=r"is 40 x 24 \(orientation tag 6; upright=False reads it as stored\)"):
        stored[0]
    assert len(verify(stored)) == 1
    Image.fromarray(np.zeros((24, 40), np.uint8)).save(tmp_path / "labels" / "a.png")
    assert stored[0].image.shape == (24, 40, 3)


@pytest.mark.parametrize("suffix", ["jpg", "tiff", "webp"])
def test_images_beyond_pillows_limit_are_read_and_turned(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagged(tmp_path / f"large.{suffix}", 6)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / f"large.{suffix}")
    assert read_image(tmp_path / f"large.{suffix}").shape == (40, 24, 3)
