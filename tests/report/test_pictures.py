from __future__ import annotations

import stat
from pathlib import Path

import cv2
import numpy as np
import pytest

from segkd.report.pictures import colourise, grid, overlay, write_png

PALETTE = [(128, 64, 128), (0, 0, 255), (255, 200, 10)]


def test_colours_by_class_and_void_is_black() -> None:
    label = np.array([[0, 1], [2, 255]], np.uint8)
    assert colourise(label, PALETTE).tolist() == [[[128, 64, 128], [0, 0, 255]], [[255, 200, 10], [0, 0, 0]]]
    np.testing.assert_array_equal(colourise(label.astype(np.int64), PALETTE), colourise(label, PALETTE))
    with pytest.raises(ValueError, match="class 3 has no colour"):
        colourise(np.array([[3]]), PALETTE)


def test_overlay_mixes_and_leaves_void_alone() -> None:
    image = np.full((1, 2, 3), 100, np.uint8)
    got = overlay(image, np.array([[1, 255]]), PALETTE, alpha=0.25)
    assert got.tolist() == [[[75, 75, 139], [100, 100, 100]]]
    np.testing.assert_array_equal(overlay(image, np.array([[1, 0]]), PALETTE, alpha=0), image)
    np.testing.assert_array_equal(
        overlay(image, np.array([[1, 0]]), PALETTE, alpha=1), colourise(np.array([[1, 0]]), PALETTE)
    )
    with pytest.raises(ValueError, match="differ in size"):
        overlay(image, np.zeros((2, 2), int), PALETTE)


def test_grid_places_every_picture_whole() -> None:
    rng = np.random.default_rng(0)
    rows = [[rng.integers(0, 255, (40, 60, 3)).astype(np.uint8) for _ in range(3)] for _ in range(2)]
    got = grid(rows, ["image", "truth", "int8"])
    assert got.dtype == np.uint8
    bar = got.shape[0] - 2 * 44 - 4
    for r in range(2):
        for c in range(3):
            top, left = bar + 4 + 44 * r, 4 + 64 * c
            np.testing.assert_array_equal(got[top : top + 40, left : left + 60], rows[r][c])
    titles = got[:bar]
    for c in range(3):  # something is written over each column, and dark
        assert titles[:, 4 + 64 * c : 64 + 64 * c].min() < 120


def test_grid_brings_cells_to_one_size_without_new_colours() -> None:
    small = colourise(np.array([[0, 1], [2, 0]]), PALETTE)
    got = grid([[np.zeros((10, 16, 3), np.uint8), small]], ["a", "b"])
    cell = got[-14:-4, 4 + 20 : 4 + 36]
    assert {tuple(pixel) for pixel in cell.reshape(-1, 3).tolist()} == set(PALETTE)
    with pytest.raises(ValueError, match="every row needs 2"):
        grid([[small]], ["a", "b"])


def test_png_round_trip_in_rgb(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    write_png(tmp_path / "new" / "grid.png", image)
    read = cv2.imread(str(tmp_path / "new" / "grid.png"))
    np.testing.assert_array_equal(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), image)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["grid.png"]
    assert stat.S_IMODE((tmp_path / "new" / "grid.png").stat().st_mode) & 0o400
    with pytest.raises(ValueError, match="uint8"):
        write_png(tmp_path / "x.png", image.astype(float))
