"""Where crops lie, against images whose pixels say where they are; maps warped onto crops, against a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from segkd.datasets.transforms import TrainTransform
from segkd.views import View, cells_of, warp


def ramp(height: int, width: int) -> np.ndarray:
    """An image whose red is the row and whose green is the column of the pixel's centre, times 2."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([2 * rows + 1, 2 * columns + 1, 0 * rows], -1).astype(np.uint8)


@pytest.mark.parametrize("seed", range(12))
def test_a_view_says_where_each_pixel_comes_from(seed: int) -> None:
    height, width = 90, 120
    transform = TrainTransform(crop_size=(64, 80), scale=(0.5, 2.0), flip=0.5, photometric=False)
    image, label, view = transform.with_view(ramp(height, width), np.zeros((height, width), np.uint8), seed)
    same = transform(ramp(height, width), np.zeros((height, width), np.uint8), seed)
    np.testing.assert_array_equal(image, same[0])
    y, x = np.mgrid[:64, :80] + 0.5
    top, left = view.top + view.down * y, view.left + view.right * x
    inside = (label != 255) & (top > 2) & (top < height - 2) & (left > 2) & (left < width - 2)
    assert inside.mean() > 0.1
    assert ((label == 255) == ((top < 0) | (top > height) | (left < 0) | (left > width))).mean() > 0.97
    np.testing.assert_allclose(image[..., 0][inside] / 2, top[inside], atol=0.55)  # rounded to halves
    np.testing.assert_allclose(image[..., 1][inside] / 2, left[inside], atol=0.55)


def test_seeds_reach_every_kind_of_view() -> None:
    transform = TrainTransform(crop_size=(64, 80), scale=(0.5, 2.0))
    pair = np.zeros((90, 120, 3), np.uint8), np.zeros((90, 120), np.uint8)
    views = [transform.with_view(*pair, seed)[2] for seed in range(12)]
    assert {view.right > 0 for view in views} == {True, False}
    assert {view.down > 1 for view in views} == {True, False}


def test_a_linear_map_is_warped_to_itself() -> None:
    image, crop, stride = (96, 128), (64, 80), 8
    rows, columns = (torch.arange(side // stride, dtype=torch.float64) * stride + stride / 2 for side in image)
    feature = torch.stack([3 * rows[:, None] - 2 * columns, rows[:, None] + columns])[None]
    views = [View(10.3, 0.6, 20.7, 0.8), View(10.3, 0.6, 100.0, -0.8)]
    warped = warp(feature.expand(2, -1, -1, -1), torch.tensor(views), image, crop)
    assert warped.shape == (2, 2, 8, 10)
    for number, view in enumerate(views):
        y = view.top + view.down * (torch.arange(8, dtype=torch.float64) + 0.5) * stride
        x = view.left + view.right * (torch.arange(10, dtype=torch.float64) + 0.5) * stride
        torch.testing.assert_close(warped[number, 0], 3 * y[:, None] - 2 * x, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(warped[number, 1], y[:, None] + x, atol=1e-4, rtol=1e-5)


def test_a_whole_image_and_its_mirror() -> None:
    for size, cells in (((96, 128), (12, 16)), ((97, 131), (13, 17)), ((64, 64), (64, 64))):
        feature = torch.randn(1, 5, *cells, generator=torch.Generator().manual_seed(0))
        whole = warp(feature, torch.tensor([View(0, 1, 0, 1)]), size, size)
        torch.testing.assert_close(whole, feature, atol=1e-5, rtol=1e-5)
        mirrored = warp(feature, torch.tensor([View(0, 1, size[1], -1)]), size, size)
        torch.testing.assert_close(mirrored, feature.flip(-1), atol=1e-5, rtol=1e-5)


def test_twice_as_large_is_an_interpolation() -> None:
    feature = torch.randn(1, 3, 12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    enlarged = F.interpolate(feature, scale_factor=2, mode="bilinear", align_corners=False)
    warped = warp(feature, torch.tensor([View(16, 0.5, 32, 0.5)]), (96, 128), (96, 128))
    torch.testing.assert_close(warped, enlarged[..., 4:16, 8:24], atol=1e-5, rtol=1e-5)


def test_beyond_the_image_is_its_border() -> None:
    feature = torch.arange(12.0).view(1, 1, 3, 4)
    warped = warp(feature, torch.tensor([View(-24, 1, 0, 1)]), (24, 32), (24, 32))
    torch.testing.assert_close(warped[0, 0], feature[0, 0, :1].expand(3, 4))


def test_cells_of_odd_sizes() -> None:
    assert cells_of((352, 480), (45, 60), (360, 480)) == (44, 60)
    assert cells_of((361, 483), (46, 61), (361, 483)) == (46, 61)
    assert cells_of((8, 8), (45, 60), (360, 480)) == (1, 1)
