"""Intervals of mIoU: the value is the evaluation's; they cover what is true as often as they say; they shrink."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segkd.errors import UserError
from segkd.evaluation.intervals import Counts, ImageCounts, difference, interval, miou
from segkd.evaluation.scores import ConfusionMatrix


def pixels(numbers: np.random.Generator, images: int, right: float, classes: int = 3) -> tuple[torch.Tensor, ...]:
    label = torch.from_numpy(numbers.integers(classes, size=(images, 8, 8)))
    wrong = torch.from_numpy(numbers.random((images, 8, 8)) > right)
    return torch.where(wrong, (label + 1) % classes, label), label


def counts(numbers: np.random.Generator, images: int, right: float) -> Counts:
    matrix = ImageCounts(3)
    matrix.update(*pixels(numbers, images, right))
    return matrix.of_images()


def test_counts_of_images_add_up_to_the_evaluation() -> None:
    prediction, label = pixels(np.random.default_rng(0), 7, 0.7, 5)
    label[0, :3] = 255
    label[label == 4] = 3
    prediction[prediction == 4] = 3  # a class that occurs nowhere
    matrix, images = ConfusionMatrix(5), ImageCounts(5)
    matrix.update(prediction, label)
    images.update(prediction[:4], label[:4])
    images.update(prediction[4:], label[4:])
    assert torch.equal(images.counts, matrix.counts)
    assert miou(images.of_images()) == pytest.approx(matrix.result().miou, abs=1e-12)
    assert images.of_images().shape == (7, 2, 5)
    assert interval([images.of_images()]).value == pytest.approx(matrix.result().miou, abs=1e-12)


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    """Images whose difficulty varies, and trainings that differ: 95 % of the intervals hold the expected score."""
    covered, outer = 0, np.random.default_rng(1)
    truth = np.mean([_trial(outer)[1] for _ in range(400)])
    for _ in range(200):
        runs, _ = _trial(outer)
        covered += interval(runs, draws=300, seed=int(outer.integers(1 << 30))).contains(float(truth))
    assert 0.88 <= covered / 200 <= 0.995


def _trial(numbers: np.random.Generator) -> tuple[list[Counts], float]:
    """Five trainings scored on 40 images: binomial counts of one class, of image and training effects."""
    ease = numbers.normal(0, 0.5, size=40)
    runs = []
    for _ in range(5):
        chance = 1 / (1 + np.exp(-(1 + ease + numbers.normal(0, 0.3))))
        hit = numbers.binomial(100, chance)
        runs.append(np.stack([hit, np.full(40, 100)], 1)[..., None])
    return runs, float(np.mean([miou(run) for run in runs]))


def test_a_paired_difference_is_narrower_than_two_apart() -> None:
    numbers = np.random.default_rng(2)
    label = torch.from_numpy(numbers.integers(3, size=(60, 8, 8)))
    hard = torch.from_numpy(numbers.random((60, 1, 1)))  # images differ more than models do
    noise = torch.from_numpy(numbers.random((60, 8, 8)))
    found = []
    for extra in (0.0, 0.03):
        matrix = ImageCounts(3)
        matrix.update(torch.where(noise < hard * 0.8 + extra, (label + 1) % 3, label), label)
        found.append(matrix.of_images())
    gain = difference([found[0]], [found[1]])
    assert gain.low > 0
    apart = interval([found[0]]), interval([found[1]])
    assert gain.high - gain.low < 0.5 * (apart[0].high - apart[0].low)
    assert gain.value == pytest.approx(apart[0].value - apart[1].value)
    assert difference([found[0]], [found[0]]) == (0.0, 0.0, 0.0)


def test_seeds_widen_it() -> None:
    numbers = np.random.default_rng(3)
    same = [counts(numbers, 50, 0.8)] * 3
    unlike = [counts(numbers, 50, right) for right in (0.7, 0.8, 0.9)]
    narrow, wide = interval(same), interval(unlike)
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_it_is_the_same_each_time_and_refuses_what_is_no_pair() -> None:
    numbers = np.random.default_rng(4)
    runs = [counts(numbers, 9, 0.8), counts(numbers, 9, 0.8)]
    assert interval(runs) == interval(runs)
    assert interval(runs, level=0.5).high < interval(runs).high
    with pytest.raises(ValueError, match="in pairs, got 2 and 1"):
        difference(runs, runs[:1])
    with pytest.raises(UserError, match=r"one set of images, got counts of \[9, 8\]"):
        interval([runs[0], runs[1][:8]])
    with pytest.raises(UserError, match="no run"):
        interval([])
