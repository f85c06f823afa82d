"""Class weights from counts of pixels."""

from __future__ import annotations

import math

import pytest

from segkd.errors import UserError
from segkd.supervision import inverse_log_weights, median_frequency_weights


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
