"""Crops by classes: at most a share of one, rare ones in the middle; pixels of rare classes laid over other crops."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from segkd.datasets.crops import RareClasses, largest_share, place_around
from segkd.datasets.cutting import Cut
from segkd.datasets.pasting import paste
from segkd.datasets.transforms import TrainTransform
from segkd.errors import UserError

SIZE = (60, 80)


def street(side: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Class 0, a band of class 1 at the right, and one square of class 2 in a corner; the image shows the classes."""
    label = np.zeros((90, 120), np.uint8)
    label[:, 70:] = 1
    label[6 : 6 + side, 100 : 100 + side] = 2
    return np.repeat(label[..., None] * 80 + 10, 3, 2).astype(np.uint8), label


def make(**options: Any) -> TrainTransform:
    return TrainTransform(**dict(crop_size=SIZE, photometric=False, flip=0.5) | options)


def pixel(label: np.ndarray) -> float:
    counts = np.bincount(label[label != 255], minlength=3)
    return counts.max() / counts.sum() if counts.sum() else 1.0


def test_no_class_has_more_than_its_share() -> None:
    image, label = street()
    plain, limited = make(scale=(1.5, 2.0)), make(scale=(1.5, 2.0), max_class_share=0.75)
    free = np.array([pixel(plain(image, label, seed)[1]) for seed in range(150)])
    held = np.array([pixel(limited(image, label, seed)[1]) for seed in range(150)])
    assert (free > 0.75).mean() > 0.4
    assert (held > 0.75).mean() <= (free > 0.75).mean() ** 5  # of 11 crops, all fail
    for seed in np.flatnonzero(free <= 0.75):  # a crop that is good stays the one it was
        np.testing.assert_array_equal(plain(image, label, int(seed))[0], limited(image, label, int(seed))[0])


def test_one_class_alone_or_void_ends_after_ten_tries() -> None:
    image, _ = street()
    for value in (0, 255):
        label = np.full((90, 120), value, np.uint8)
        _, mask = make(max_class_share=0.75)(image, label, 1)
        assert set(np.unique(mask)) <= {value, 255}
    assert largest_share(np.full((3, 3), 255, np.uint8)) == 1.0


def test_a_rare_pixel_is_in_the_middle() -> None:
    image, label = street(side=1)
    shares = [0.6, 0.399, 0.001]
    found = []
    for seed in range(60):
        made = make(scale=None, rare_share=1.0, class_share=shares).with_view(image, label, seed)
        rows, columns = np.nonzero(made.label == 2)
        assert len(rows) == 1
        found.append((rows[0], columns[0]))
        y = made.view.top + made.view.down * (rows[0] + 0.5)
        x = made.view.left + made.view.right * (columns[0] + 0.5)
        assert (y, x) == (6.5, 100.5)  # the view says where the pixel came from
    # Pixel (6, 100) of 90 x 120: no crop of 60 x 80 has it in its middle; it lies at row 6, column 60 or its mirror.
    assert set(found) == {(6, 60), (6, 19)}


def test_the_middle_is_met_wherever_the_image_reaches() -> None:
    """At any scale; at borders as near as the image allows, and where the crop is the larger one, it stays."""
    for scaled in ((90, 120), (135, 180), (63, 84)):
        cut = Cut((90, 120), scaled, 0, 0, (60, 80))
        for pixel in ((45, 60), (50, 66), (0, 0), (89, 119)):
            found = place_around(pixel, cut)
            for at, own, new, side, first in zip(pixel, (90, 120), scaled, SIZE, (found.top, found.left), strict=True):
                wanted = min(max((at + 0.5) * new / own - side / 2, 0), new - side)
                assert abs(first - wanted) <= 0.5
    small = Cut((90, 120), (45, 60), -7, -9, (60, 80))
    assert place_around((45, 60), small) == small


def test_rare_crops_come_as_often_as_asked() -> None:
    image, label = street(side=1)
    options = dict(scale=(2.0, 2.0), class_share=[0.6, 0.399, 0.001])
    seen = [[(make(rare_share=s, **options)(image, label, k)[1] == 2).any() for k in range(200)] for s in (0, 0.5, 1)]
    none, half, every = (np.mean(one) for one in seen)
    assert every == 1.0
    assert abs(half - (0.5 + 0.5 * none)) < 0.1


def test_probabilities_are_the_published_ones() -> None:
    shares, temperature = np.array([0.5, 0.3, 0.15, 0.05]), 0.1
    expected = np.exp((1 - shares) / temperature)
    found = RareClasses(shares, temperature).probabilities([0, 1, 2, 3])
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-12)
    found = RareClasses(shares, 1e-4).probabilities([0, 1])  # no overflow
    np.testing.assert_allclose(found, [0, 1], atol=1e-12)
    generator = np.random.default_rng(0)
    label = np.repeat(np.arange(4, dtype=np.uint8), 5)[None]
    drawn = np.bincount([RareClasses(shares, temperature).draw(label, generator) for _ in range(4000)], minlength=4)
    np.testing.assert_allclose(drawn / 4000, expected / expected.sum(), atol=0.03)


@pytest.mark.parametrize("by", ["component", "class"])
def test_rare_pixels_are_laid_over(by: str) -> None:
    image, label = np.full((90, 120, 3), 200, np.uint8), np.ones((90, 120), np.uint8)
    donor_image, donor = np.zeros((90, 120, 3), np.uint8), np.zeros((90, 120), np.uint8)
    for row, column in ((40, 60), (40, 80), (60, 60)):
        donor[row : row + 6, column : column + 6] = 2
    donor_image[donor == 2] = (9, 99, 199)
    transform = make(scale=None, flip=0.0, paste=1.0, paste_by=by, class_share=[0.6, 0.399, 0.001])
    counts = set()
    for seed in range(25):
        made = transform.with_view(image, label, seed, partner=lambda _: (donor_image, donor))
        pasted = made.label == 2
        np.testing.assert_array_equal((made.image == (9, 99, 199)).all(-1), pasted)
        assert (made.image[~pasted] == 200).all()
        assert (made.label[~pasted] == 1).all()
        counts.add(int(pasted.sum()))
        assert cv2.connectedComponents(pasted.astype(np.uint8))[0] - 1 == pasted.sum() / 36
    assert max(counts) == (36 if by == "component" else 108)
    assert counts <= {36, 72, 108}
    assert (image == 200).all()  # the given image is not changed


def test_pasting_changes_neither_crop() -> None:
    image, label = street()
    donor = (np.zeros_like(image), np.full_like(label, 2))
    kept = [one.copy() for one in (image, label, *donor)]
    made = paste(image, label, donor, RareClasses([0.5, 0.4, 0.1], 0.01), "class", np.random.default_rng(0))
    assert (made[1] == 2).all()
    for one, before in zip((image, label, *donor), kept, strict=True):
        np.testing.assert_array_equal(one, before)


def test_options_leave_the_other_draws_alone() -> None:
    image, label = street()
    plain = make(scale=(1.0, 1.5), photometric=True)
    partner = lambda _: (image, np.full_like(label, 255))  # noqa: E731  nothing to paste
    other = make(scale=(1.0, 1.5), photometric=True, rare_share=1e-9, paste=1.0, class_share=[1, 0, 0])
    for seed in range(10):
        for one, two in zip(
            plain(image, label, seed), other.with_view(image, label, seed, partner=partner), strict=False
        ):
            np.testing.assert_array_equal(one, two)
    unlabelled = make(max_class_share=0.1, rare_share=1.0, class_share=[1, 0, 0], paste=1.0)
    for one, two in zip(make()(image, label, 3), unlabelled.with_view(image, label, 3, labelled=False), strict=False):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_class_share": 0}, "max_class_share must be a number above 0 to 1, got 0"),
        ({"rare_share": 1.5}, "rare_share must be a number from 0 to 1, got 1.5"),
        ({"rare_temperature": 0}, "rare_temperature must be a number above 0"),
        ({"class_share": "x"}, "class_share must be a list of numbers"),
        ({"paste": -1}, "paste must be a number from 0 to 1"),
        ({"paste_by": "klass"}, "paste_by cannot be 'klass'.*class"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**options)


def test_what_is_missing_is_said() -> None:
    image, label = street()
    with pytest.raises(UserError, match="needs class_share"):
        make(rare_share=1.0)(image, label, 0)
    with pytest.raises(UserError, match="only a training's loader has one"):
        make(paste=1.0, class_share=[1, 0, 0])(image, label, 0)
    with pytest.raises(UserError, match="class_share has 2 shares, and a label holds class 2"):
        make(rare_share=1.0, class_share=[0.5, 0.5])(image, label, 0)
