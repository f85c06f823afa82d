"""Class weights from counts of pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segkd.errors import UserError
from segkd.supervision import (
    effective_number_weights,
    inverse_frequency_weights,
    inverse_log_weights,
    median_frequency_weights,
)


@pytest.mark.parametrize(("offset", "rarest"), [(1.02, 50.498), (1.10, 10.492)])
def test_inverse_log_is_bounded_by_its_offset(offset: float, rarest: float) -> None:
    weights = inverse_log_weights([0, 300, 100], offset)
    assert weights == pytest.approx([rarest, 1 / math.log(offset + 0.75), 1 / math.log(offset + 0.25)], abs=1e-3)
    assert inverse_log_weights([0, 3, 1], offset) == pytest.approx(weights, rel=1e-12)  # of the parts alone


def test_median_frequency_is_relative_to_the_images_that_show_a_class() -> None:
    # Frequencies 0.5, 0.2, 0.05 (and none): the median is 0.2.
    weights = median_frequency_weights([500, 20, 10, 0], [1000, 100, 200, 0])
    assert weights == pytest.approx([0.4, 1.0, 4.0, 0.0])


def test_counts_that_cannot_be_are_refused() -> None:
    for pixels in ([], [0, 0], [3, -1]):
        with pytest.raises(UserError, match="not all 0"):
            inverse_log_weights(pixels)
        with pytest.raises(UserError, match="not all 0"):
            median_frequency_weights(pixels, [5] * len(pixels))
    with pytest.raises(UserError, match="above 1"):
        inverse_log_weights([1, 2], offset=1.0)
    with pytest.raises(UserError, match="2 numbers of pixels, but 1"):
        median_frequency_weights([1, 2], [3])
    with pytest.raises(UserError, match="more pixels than the images"):
        median_frequency_weights([4, 2], [3, 3])


def test_inverse_frequency_is_scikit_learns_balanced() -> None:
    weights = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    labels = np.repeat([0, 1, 3], [700, 20, 3])
    expected = weights("balanced", classes=np.array([0, 1, 3]), y=labels)
    found = inverse_frequency_weights(np.bincount(labels, minlength=4).tolist())
    assert [found[0], found[1], found[3]] == pytest.approx(expected.tolist())
    assert found[2] == 0


def test_effective_number_is_the_papers() -> None:
    """Equations 5 and 7: E = (1 - beta^n) / (1 - beta), and the geometric sum that it is (proposition 1)."""
    beta, samples = 0.999, [2000, 300, 1]
    effective = [sum(beta**k for k in range(n)) for n in samples]
    expected = np.array([1 / number for number in effective])
    assert effective_number_weights(samples, beta) == pytest.approx((expected / expected.mean()).tolist(), rel=1e-9)
    assert effective_number_weights([5, 9, 0], 0.0) == [1.0, 1.0, 0.0]
    nearly = effective_number_weights([4, 2, 0], 1 - 1e-9)
    assert nearly == pytest.approx([2 / 3, 4 / 3, 0.0], rel=1e-6)  # the inverse frequency
    with pytest.raises(UserError, match="beta must be in 0"):
        effective_number_weights([1, 2], 1.0)
