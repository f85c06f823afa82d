"""Where classes meet: OpenCV's Canny exactly, STDC's Laplacians, distances; void is nowhere an edge."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from plain import VOID, details, draw_label, opencv_boundary, opencv_distance
from torch import Tensor

from segkd.supervision.edges import boundary_distance, boundary_target, canny, detail_target

STDC = dict(strides=(1, 2, 4), fuse=(0.6, 0.3, 0.1), threshold=0.1)


def everywhere(label: Tensor) -> Tensor:
    return torch.ones_like(label, dtype=torch.bool)


@pytest.mark.parametrize("classes", [2, 19, 256])
@pytest.mark.parametrize("kind", ["regions", "noise"])
def test_edges_are_those_of_opencv(kind: str, classes: int) -> None:
    torch.manual_seed(classes)
    for height, width in ((23, 40), (48, 31), (64, 64)):
        label = torch.randint(0, classes, (3, height, width))
        if kind == "regions":
            label = draw_label(3, height, width, min(classes, 19), void=0.0) * (classes // 19 or 1)
        want = [cv2.Canny(ids.astype(np.uint8), 0.1, 0.2) > 0 for ids in label.numpy()]
        assert sum(map(np.sum, want)) > 30
        torch.testing.assert_close(canny(label, everywhere(label)), torch.from_numpy(np.stack(want)))


@pytest.mark.parametrize(("width", "border"), [(4, 6), (3, 6), (5, 2), (1, 1)])
def test_the_boundary_map_is_the_published_one(width: int, border: int) -> None:
    torch.manual_seed(0)
    label = draw_label(void=0.05)  # to OpenCV void is one more class
    want = opencv_boundary(label, width, border)
    assert 0.05 < want.float().mean() < 0.95
    torch.testing.assert_close(boundary_target(label, everywhere(label), width, border), want)


def test_a_map_smaller_than_its_border_has_no_boundary() -> None:
    label = torch.randint(0, 5, (1, 12, 40))
    assert not boundary_target(label, everywhere(label)).any()
    assert boundary_target(label, everywhere(label), border=0).any()


def test_details_are_the_published_ones() -> None:
    torch.manual_seed(0)
    for size in ((37, 51), (64, 48), (9, 10)):
        label = draw_label(2, *size, void=0.05)
        want = details(label)
        assert 0.05 < want.float().mean() < 0.95
        torch.testing.assert_close(detail_target(label, everywhere(label), **STDC), want)


def test_details_do_not_depend_on_the_default_precision() -> None:
    """The third map alone weighs exactly the threshold: in mixed precisions it would pass it."""
    torch.manual_seed(0)
    label = draw_label(void=0.0)
    try:
        torch.set_default_dtype(torch.float64)
        torch.testing.assert_close(detail_target(label, everywhere(label), **STDC), details(label))
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_third_map_alone_decides_nothing() -> None:
    torch.manual_seed(0)
    label = draw_label(void=0.0)
    two = detail_target(label, everywhere(label), (1, 2), (0.6, 0.3), 0.1)
    torch.testing.assert_close(detail_target(label, everywhere(label), **STDC), two)
    all_three = detail_target(label, everywhere(label), (1, 2, 4), (0.6, 0.3, 0.2), 0.1)
    assert all_three.sum() > two.sum()


def test_void_makes_no_edge() -> None:
    """A single class with holes has no boundary and no detail (but for the frame that class 0 outside makes)."""
    label = torch.full((1, 40, 40), 3)
    label[:, 10:20, 12:30], label[:, 30, 5] = VOID, VOID
    valid = label != VOID
    assert not canny(label, valid).any()
    assert boundary_target(label, everywhere(label)).any()
    assert not detail_target(label, valid, **STDC)[:, 3:-3, 3:-3].any()
    assert detail_target(label, everywhere(label), **STDC)[:, 3:-3, 3:-3].any()
    assert (boundary_distance(label, valid, 16)[valid] == 16).all()


def test_edges_far_from_void_do_not_see_it() -> None:
    torch.manual_seed(0)
    whole = draw_label(1, 40, 60, void=0.0)
    holed = whole.clone()
    holed[:, :, :10] = VOID
    valid = holed != VOID
    torch.testing.assert_close(canny(holed, valid)[:, :, 13:], canny(whole, everywhere(whole))[:, :, 13:])
    before, after = (detail_target(x, v, **STDC) for x, v in ((whole, everywhere(whole)), (holed, valid)))
    torch.testing.assert_close(after[:, :, 16:], before[:, :, 16:])


@pytest.mark.parametrize("void_is_class", [False, True])
@pytest.mark.parametrize("void", [0.0, 0.1, 0.6])
def test_distances_are_those_of_opencv(void: float, void_is_class: bool) -> None:
    """Regions, large regions and noise; limits below and beyond the map's size. OpenCV rounds in its own way."""
    torch.manual_seed(0)
    noise = torch.where(torch.rand(2, 50, 41) < 0.01, torch.randint(0, 5, (2, 50, 41)), 3)
    large = draw_label(2, 6, 8, classes=3, void=0.0).repeat_interleave(9, 1).repeat_interleave(9, 2)
    farthest = 0.0
    for label in (draw_label(2, 23, 31, classes=3, void=0.0), draw_label(3, 64, 9, void=0.0), noise, large):
        label[torch.rand(label.shape) < void] = VOID
        known = label != VOID
        want = opencv_distance(label, void_is_class)
        assert want[known].min() == 1
        farthest = max(farthest, want[known].max().item())
        for limit in (1, 4, 15, 40, 200):
            got = boundary_distance(label, known | void_is_class, limit)
            torch.testing.assert_close(got[known], want[known].clamp(max=limit), rtol=0, atol=1e-3)
    assert void_is_class or farthest > 15


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 30), (30, 1), (2, 2)])
def test_distances_on_the_smallest_maps(height: int, width: int) -> None:
    label = torch.arange(height * width).reshape(1, height, width) // 12
    want = opencv_distance(label, True).clamp(max=20)
    torch.testing.assert_close(boundary_distance(label, everywhere(label), 20), want, rtol=0, atol=1e-3)
