"""Images of more than three bands, and TIFFs that OpenCV reads otherwise than they are: held to tifffile and Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from segkd.datasets import create
from segkd.datasets.colours import jitter
from segkd.datasets.cutting import MEAN_COLOUR
from segkd.datasets.image_cache import Cached, ImageCache
from segkd.datasets.image_files import read_image
from segkd.datasets.image_headers import image_size
from segkd.datasets.label_files import read_label
from segkd.datasets.transforms import TrainTransform
from segkd.datasets.verify import verify
from segkd.errors import UserError

tifffile = pytest.importorskip("tifffile", reason="TIFFs of many bands are written by tifffile")
H, W = 40, 56


def noise(bands: int, dtype: type[np.generic] = np.uint8, most: int = 255) -> NDArray[Any]:
    return np.random.default_rng(bands).integers(0, most + 1, (H, W, bands)).astype(dtype)


def write(path: Path, image: NDArray[Any], planar: bool = False, **options: Any) -> Path:
    kind = "separate" if planar else "contig"
    pixels = np.moveaxis(image, -1, 0) if planar else image
    tifffile.imwrite(path, pixels, photometric="rgb", planarconfig=kind, **options)
    return path


@pytest.mark.parametrize("bands", [4, 5, 9])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_all_bands_of_a_tiff(tmp_path: Path, bands: int, planar: bool, dtype: type[np.generic]) -> None:
    image = noise(bands, dtype)
    path = write(tmp_path / "a.tif", image, planar, compression="zlib", tile=(16, 16))
    np.testing.assert_array_equal(read_image(path, white=None if dtype is np.uint8 else 255, channels=bands), image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_colours_that_lie_plane_by_plane(tmp_path: Path, dtype: type[np.generic], tile: Any) -> None:
    image = noise(3, dtype)
    found = read_image(write(tmp_path / "a.tif", image, True, tile=tile), white=None if dtype is np.uint8 else 255)
    np.testing.assert_array_equal(found, image)


def test_alpha_leaves_the_colours_as_they_are(tmp_path: Path) -> None:
    """OpenCV would multiply them by it."""
    image = noise(4)
    path = write(tmp_path / "a.tif", image, extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(path), image[..., :3])
    np.testing.assert_array_equal(read_image(path, channels=4), image)


def test_infrared_in_the_alpha_of_a_png(tmp_path: Path) -> None:
    image = noise(4)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", channels=4), image)
    deep = noise(4, np.uint16, 4095)
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., [2, 1, 0, 3]])
    want = (deep * (255 / 4095)).round()
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png", white=4095, channels=4), want)


@pytest.mark.parametrize("tag", range(1, 9))
def test_orientation_of_bands_and_the_size_in_the_header(tmp_path: Path, tag: int) -> None:
    image = noise(5)
    for bands, name in ((3, "rgb.tif"), (5, "five.tif")):
        path = write(tmp_path / name, image[..., :bands], extratags=[(274, "H", 1, tag, True)])
        upright, stored = (read_image(path, way, channels=bands) for way in (True, False))
        np.testing.assert_array_equal(stored, image[..., :bands])
        assert image_size(path) == upright.shape[:2]
        assert image_size(path, upright=False) == stored.shape[:2] == (H, W)
        if bands == 3:
            np.testing.assert_array_equal(upright, np.asarray(Image.open(path)))
        else:
            np.testing.assert_array_equal(upright[..., :3], read_image(tmp_path / "rgb.tif"))


@pytest.mark.parametrize(
    ("bands", "channels", "message"),
    [
        (5, 3, r"has 5 bands; it must have 3 \(RGB\) or 1.*channels=5"),
        (5, 4, r"has 5 bands, not the 4 of channels=4"),
        (3, 4, r"has 3 bands, not the 4"),
    ],
)
def test_other_bands_than_said_are_refused(tmp_path: Path, bands: int, channels: int, message: str) -> None:
    path = write(tmp_path / "a.tif", noise(bands))
    with pytest.raises(UserError, match=f"^{path}: image {message}") as caught:
        read_image(path, channels=channels)
    assert "\n" not in str(caught.value)


def test_pixels_without_a_value_are_refused(tmp_path: Path) -> None:
    image = noise(3, np.float32)
    image[3, 4, 1] = np.nan
    with pytest.raises(UserError, match=r"pixels without a value \(NaN"):
        read_image(write(tmp_path / "a.tif", image), white=255)


def test_what_tifffile_cannot_decode_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(5))
    path.write_bytes(path.read_bytes()[: H * W * 4])
    with pytest.raises(UserError, match=f"^{path}: cannot be read") as caught:
        read_image(path, channels=5)
    assert "\n" not in str(caught.value)


def test_large_files_of_tiffs_own_kind_and_tiles(tmp_path: Path) -> None:
    deep = noise(3, np.uint16, 4095)
    big = write(tmp_path / "big.tif", deep, bigtiff=True)
    with pytest.raises(UserError, match="16-bit pixels"):
        read_image(big)
    np.testing.assert_array_equal(read_image(big, white=4095), (deep * (255 / 4095)).round())
    mask = noise(1)[..., 0] % 5
    tifffile.imwrite(tmp_path / "mask.tif", mask, tile=(16, 16))
    np.testing.assert_array_equal(read_label(tmp_path / "mask.tif"), mask)


def test_crops_are_those_of_each_band_and_colours_change_in_the_first_three() -> None:
    image, label = noise(5), noise(1)[..., 0] % 4
    wide = TrainTransform((32, 48), scale=(0.5, 2.0), photometric=False)
    for seed in range(8):
        made, mask = wide(image, label, seed)
        for k in range(5):
            one, same = wide(np.repeat(image[..., k : k + 1], 3, 2), label, seed)
            inside = (one != MEAN_COLOUR).any(-1)
            np.testing.assert_array_equal(made[inside, k], one[inside, 0])
            np.testing.assert_array_equal(mask, same)
    changed = jitter(image, 3, probability=1.0)
    np.testing.assert_array_equal(changed[..., :3], jitter(np.ascontiguousarray(image[..., :3]), 3, probability=1.0))
    np.testing.assert_array_equal(changed[..., 3:], image[..., 3:])
    assert (changed[..., :3] != image[..., :3]).any()


def test_a_folder_of_five_bands_cached_verified_and_joined(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for k in range(5):
        write(tmp_path / f"images/{k}.tif", noise(5) // (k + 1))
        Image.fromarray(noise(1)[..., 0] % 2).save(tmp_path / f"labels/{k}.png")
    given: dict[str, Any] = dict(root=tmp_path, class_names=["a", "b"], channels=5)
    data = create("folder", **given)
    assert data.channels == 5
    assert verify(data) == []
    assert len(verify(create("folder", **{**given, "channels": 3, "check": False}))) == 5
    cache = ImageCache(data, tmp_path / "cache")
    cache.write(2)
    kept = Cached(data, cache)
    assert kept.channels == 5
    np.testing.assert_array_equal(kept[2].image, noise(5) // 3)
    joined = create("concat", sets=[dict(type="subset", of="folder", count=2, **given), data])
    assert joined.channels == 5
    with pytest.raises(UserError, match="set 2 has images of 3 bands, the first 5"):
        create("concat", sets=[data, dict(type="folder", **{**given, "channels": 3})])
    with pytest.raises(UserError, match="channels must be an integer from 3"):
        create("folder", **{**given, "channels": 2})


def test_grey_with_alpha_and_half_floats(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    grey = noise(2, np.uint16, 4000)
    tifffile.imwrite(tmp_path / "la.tif", grey, photometric="minisblack", extrasamples=["unassalpha"])
    want = np.repeat((grey[..., :1] * (255 / 4000)).round(), 3, 2)
    np.testing.assert_array_equal(read_image(tmp_path / "la.tif", white=4000), want)
    half = (noise(1)[..., 0] / 255).astype(np.float16)
    tifffile.imwrite(tmp_path / "half.tif", half)
    found = read_image(tmp_path / "half.tif", white=1.0)
    np.testing.assert_array_equal(found[..., 0], (half.astype(np.float64) * 255).round())
    with pytest.raises(UserError, match=r"half\.tif"):
        read_label(tmp_path / "half.tif")
    assert capfd.readouterr().err == ""


def test_masks_of_one_bit_are_ids_and_inverted_ids_are_refused(tmp_path: Path) -> None:
    mask = noise(1)[..., 0] > 99
    for name, how in (("plain.tif", None), ("fax.tif", "group4")):
        Image.fromarray(mask).save(tmp_path / name, compression=how)
        np.testing.assert_array_equal(read_label(tmp_path / name), mask)
    tifffile.imwrite(tmp_path / "white.tif", noise(1)[..., 0] % 5, photometric="miniswhite")
    with pytest.raises(UserError, match=r"white.tif: a label in a TIFF whose 0 is white"):
        read_label(tmp_path / "white.tif")
