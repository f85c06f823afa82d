"""PNGs decoded no further than a crop needs: the same pixels, and each file that is another one as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from segkd.datasets.base import DataError
from segkd.datasets.files import LabelTable, Pair
from segkd.datasets.folder import FolderDataset
from segkd.datasets.image_files import read_image
from segkd.datasets.loading import train_loader
from segkd.datasets.png_rows import PngRows, png_rows
from segkd.datasets.transforms import TrainTransform
from segkd.errors import UserError

SIZE = (90, 70)


def picture(path: Path, size: tuple[int, int] = SIZE, seed: int = 0, **options: Any) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 256, (*size, 3), dtype=np.uint8), (3, 3), 0)
    Image.fromarray(image).save(path, **options)
    return image


def rows_of(path: Path, upright: bool = True) -> PngRows | None:
    return png_rows(path, lambda: read_image(path, upright), upright=upright)


@pytest.mark.parametrize("seed", range(3))
def test_parts_are_those_of_the_whole(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image = picture(path, seed=seed, compress_level=seed * 4)
    found = rows_of(path)
    assert found is not None
    assert found.shape == (*SIZE, 3)
    for stop in (1, 2, 45, 83, 84, 89, 90, 500):
        np.testing.assert_array_equal(found[:stop, :33], image[:stop, :33])
        np.testing.assert_array_equal(found[stop // 2 : stop, 3:], image[stop // 2 : stop, 3:])


@pytest.mark.parametrize("palette", [False, True])
def test_labels_by_rows(palette: bool, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(1, 4, SIZE, dtype=np.uint8)
    stored[80, 5], stored[:3] = 77, 255
    picture = Image.fromarray(stored)
    if palette:
        picture.putpalette([k // 3 for k in range(768)])
    picture.save(tmp_path / "a.png")
    table = LabelTable({1: 0, 2: 1, 3: 2, 255: 255}, "ids")
    pair = Pair("a", tmp_path / "a.jpg", tmp_path / "a.png")
    label = table.by_rows(pair)
    assert isinstance(label, PngRows)
    assert label.shape == SIZE
    np.testing.assert_array_equal(label[:80, :9], np.where(stored == 255, 255, stored - 1)[:80, :9])
    for stop in (81, 90):  # an id that is no class is found where it is, and said in full
        with pytest.raises(DataError, match=r"a\.png: label value 77 \(1 pixels\) outside the classes"):
            label[:stop, :3]


def test_damage_is_found_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image = picture(path)
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 255
    path.write_bytes(data)
    found = rows_of(path)
    np.testing.assert_array_equal(found[:30, :], image[:30])
    with pytest.raises(DataError, match=r"a\.png: cannot be read as image file"):
        found[:90, :]


def kinds(folder: Path) -> dict[str, Path]:
    """Files that are read as a whole."""
    rgb = np.zeros((*SIZE, 3), np.uint8)
    found = {name: folder / f"{name}.png" for name in ("grey", "palette", "alpha", "deep", "turned", "cut", "renamed")}
    Image.fromarray(rgb[..., 0]).save(found["grey"])
    Image.fromarray(rgb).quantize(8).save(found["palette"])
    Image.fromarray(np.dstack([rgb, rgb[..., :1]])).save(found["alpha"])
    cv2.imwrite(str(found["deep"]), rgb.astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(found["turned"], exif=exif)
    picture(found["cut"])
    found["cut"].write_bytes(found["cut"].read_bytes()[:-30])
    Image.fromarray(rgb).save(found["renamed"], format="JPEG")
    found |= {"jpeg": folder / "a.jpg", "none": folder / "none.png", "empty": folder / "empty.png"}
    Image.fromarray(rgb).save(found["jpeg"])
    found["empty"].write_bytes(b"")
    return found


def test_what_is_read_as_a_whole(tmp_path: Path) -> None:
    for name, path in kinds(tmp_path).items():
        assert rows_of(path) is None, name
    assert rows_of(tmp_path / "turned.png", upright=False) is not None


def test_batches_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for k in range(5):
        picture(tmp_path / f"images/{k}.png", (90 + k, 70), seed=k)
        label = np.random.default_rng(k).integers(0, 3, (90 + k, 70), dtype=np.uint8)
        Image.fromarray(label).save(tmp_path / f"labels/{k}.png")
    data = FolderDataset(tmp_path / "images", tmp_path / "labels", ["a", "b", "c"])
    transform = TrainTransform((32, 40), paste=0.3, class_share=[0.5, 0.3, 0.2])
    by_rows = list(train_loader(data, transform, 4, 20, seed=3))
    read = []
    monkeypatch.setattr(FolderDataset, "by_rows", lambda self, index: read.append(index) or self[index])
    for one, two in zip(by_rows, train_loader(data, transform, 4, 20, seed=3), strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert len(read) > 80


def test_sizes_that_differ_are_said(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    picture(tmp_path / "images/a.png")
    Image.fromarray(np.zeros((90, 71), np.uint8)).save(tmp_path / "labels/a.png")
    data = FolderDataset(tmp_path / "images", tmp_path / "labels", ["a"], check=False)
    with pytest.raises(UserError) as whole:
        data[0]
    with pytest.raises(UserError) as by_rows:
        data.by_rows(0)
    assert str(whole.value) == str(by_rows.value)
