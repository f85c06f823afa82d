"""Intervals of mIoU, and of the difference of two models, by the bootstrap over images and over trainings.

Nothing is assumed of how scores are distributed: the images (and the seeds of trainings) are drawn again, with
replacement, as often as there are of them, and the score of each such set is taken (Efron, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkd.errors import UserError
from segkd.evaluation.scores import ConfusionMatrix

DRAWS = 2000
LEVEL = 0.95

Counts = NDArray[np.int64]


class ImageCounts(ConfusionMatrix):
    """A confusion matrix that also keeps what an IoU needs of each image, in the order in which they come."""

    def __init__(self, num_classes: int, count_void: bool = False, void_output: bool = False) -> None:
        super().__init__(num_classes, count_void=count_void, void_output=void_output)
        self._of_images: list[Tensor] = []

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add predicted classes (N, H, W) against labels (N, H, W), image by image."""
        for one, truth in zip(prediction, label, strict=True):
            before, self.counts = self.counts, torch.zeros_like(self.counts)
            try:
                super().update(one[None], truth[None])
                self._of_images.append(torch.stack(self.sides()).long())
            finally:
                self.counts += before

    def sides_of_images(self) -> Counts:
        """(N, 3, K): pixels of each class that are right, those labelled so, those predicted so."""
        empty = torch.zeros(0, 3, self.num_classes, dtype=torch.int64)
        return torch.stack(self._of_images).numpy() if self._of_images else empty.numpy()

    def of_images(self) -> Counts:
        """(N, 2, K): pixels of each class that are right, and those that are of it in truth or in prediction."""
        hit, truth, guess = self.sides_of_images().transpose(1, 0, 2)
        return np.stack([hit, truth + guess - hit], 1)


class Interval(NamedTuple):
    """A value with the ends of its interval, all in percent or percentage points."""

    value: float
    low: float
    high: float

    def contains(self, value: float) -> bool:
        """True if the value is in it; what is NaN leaves it open."""
        return not (value < self.low or value > self.high)


def miou(counts: Counts) -> float:
    """mIoU in percent of counts (N, 2, K), summed over the images before any ratio is taken."""
    return float(_miou(counts.sum(0)[None, None])[0, 0])


def interval(runs: Sequence[Counts], draws: int = DRAWS, level: float = LEVEL, seed: int = 0) -> Interval:
    """The mean mIoU of trainings that differ in their seeds, with its interval.

    Args:
        runs: counts (N, 2, K) of one set of images, of each training.
        draws: how many sets are drawn.
        level: share of them in the interval.
        seed: of the drawing.
    """
    return _interval([np.stack(_alike(runs))], draws, level, seed)


def difference(
    better: Sequence[Counts], base: Sequence[Counts], draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> Interval:
    """``interval`` of the mIoU of ``better`` minus that of ``base``, run by run: both see the same images and seeds."""
    if len(better) != len(base):
        raise ValueError(f"runs are compared in pairs, got {len(better)} and {len(base)}")
    both = _alike([*better, *base])
    return _interval([np.stack(both[: len(better)]), np.stack(both[len(better) :])], draws, level, seed)


def verdict(gain: Interval) -> str:
    """What may be said of a difference."""
    if gain.contains(0.0):
        return "within noise"
    return "better" if gain.value > 0 else "worse"


def _alike(runs: Sequence[Counts]) -> list[Counts]:
    if not runs:
        raise UserError("there is no run to take an interval of")
    if len({run.shape for run in runs}) != 1 or not len(runs[0]):
        raise UserError(f"runs are compared on one set of images, got counts of {[run.shape[0] for run in runs]}")
    return list(runs)


def _interval(arms: Sequence[Counts], draws: int, level: float, seed: int) -> Interval:
    """Of the first arm's mean score, minus the second's where there is one; each is (S, N, 2, K)."""
    numbers = np.random.default_rng(seed)
    seeds, images = arms[0].shape[:2]
    value = _scores(arms, np.ones((1, images))).mean()
    weights = numbers.multinomial(images, np.full(images, 1 / images), size=draws).astype(float)
    found = _scores(arms, weights)  # (draws, seeds)
    chosen = numbers.integers(seeds, size=(draws, seeds))
    mean = found.mean(1)
    # a mean of few that are drawn again varies too little, by (S - 1) / S: Rao and Wu (1988)
    widened = math.sqrt(seeds / (seeds - 1)) if seeds > 1 else 0.0
    drawn = mean + widened * (np.take_along_axis(found, chosen, 1).mean(1) - mean)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def _scores(arms: Sequence[Counts], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """mIoU (draws, S) of images that count ``weights`` (draws, N) times; of two arms, the difference."""
    first, *second = (_miou(np.einsum("bn,snck->bsck", weights, arm.astype(float), optimize=True)) for arm in arms)
    return first - second[0] if second else first


def _miou(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 2, K) -> (...), over the classes that occur in truth or prediction."""
    hit, union = counts[..., 0, :], counts[..., 1, :]
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = 100 * np.nanmean(hit / np.where(union > 0, union, np.nan), axis=-1)
    return found
