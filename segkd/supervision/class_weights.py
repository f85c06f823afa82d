"""Factors for ``class_weight`` from how many pixels of the training labels each class has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from segkd.errors import UserError


def inverse_frequency_weights(pixels: Sequence[float]) -> list[float]:
    """``sum(pixels) / (K pixels_k)``, so that all classes weigh the same in the sum over all pixels.

    A class without a pixel counts in no K, and gets the factor 0.

    Args:
        pixels: K numbers of pixels; void is none of them.
    """
    total, shown = sum(_counts(pixels)), sum(count > 0 for count in pixels)
    return [total / (shown * count) if count else 0.0 for count in pixels]


def effective_number_weights(samples: Sequence[float], beta: float = 0.999) -> list[float]:
    """``(1 - beta) / (1 - beta**n)`` for n samples of a class, with a mean of 1 (Cui et al., CVPR 2019, eq. 5 and 7).

    A class without a sample has no part in the mean, and gets the factor 0.

    Args:
        samples: K numbers of samples, as of the images that show a class: numbers of pixels are so large that all
            factors would be 1.
        beta: 0 gives equal factors, towards 1 those of the inverse frequency; 0.9 to 0.9999 in the paper.
    """
    if not 0 <= beta < 1:
        raise UserError(f"effective_number_weights: beta must be in 0..1, and below 1, got {beta!r}")
    factors = [
        (1 - beta) / -math.expm1(count * math.log(beta)) if count and beta else float(count > 0)
        for count in _counts(samples)
    ]
    mean = sum(factors) / sum(factor > 0 for factor in factors)
    return [factor / mean for factor in factors]


def inverse_log_weights(pixels: Sequence[float], offset: float = 1.02) -> list[float]:
    """``1 / ln(offset + frequency)`` with ``frequency = pixels / sum(pixels)``; a rare class gets a large factor.

    Args:
        pixels: K numbers of pixels. Void is counted nowhere, as in CGNet; where a publication counts it as a class
            (ERFNet), give its pixels last and drop the last factor.
        offset: bounds the factors to [1 / ln(offset + 1), 1 / ln(offset)]: 1.02 in ENet (Paszke et al. 2016,
            arXiv:1606.02147), which gives 1.4 to 50.5; 1.10 in ESPNet and ERFNet, which gives 1.3 to 10.5.
    """
    if offset <= 1:
        raise UserError(f"inverse_log_weights: offset must be above 1, got {offset!r}")
    total = sum(_counts(pixels))
    return [1.0 / math.log(offset + count / total) for count in pixels]


def median_frequency_weights(pixels: Sequence[float], pixels_where_shown: Sequence[float]) -> list[float]:
    """``median(frequency) / frequency``, the median over the classes (Eigen and Fergus, ICCV 2015, arXiv:1411.4734).

    A class that no image shows has no part in the median, and the factor 0.

    Args:
        pixels: K numbers of pixels.
        pixels_where_shown: K numbers: all (valid) pixels of those images that show the class; its frequency is relative
            to them.
    """
    if len(pixels) != len(pixels_where_shown):
        raise UserError(
            f"median_frequency_weights: {len(pixels)} numbers of pixels, but {len(pixels_where_shown)} of the images'"
        )
    _counts(pixels)
    if any(count > shown for count, shown in zip(pixels, pixels_where_shown, strict=True)):
        raise UserError("median_frequency_weights: a class has more pixels than the images that show it")
    frequency = [count / shown if count else 0.0 for count, shown in zip(pixels, pixels_where_shown, strict=True)]
    middle = median(f for f in frequency if f)
    return [middle / f if f else 0.0 for f in frequency]


def _counts(pixels: Sequence[float]) -> Sequence[float]:
    if not len(pixels) or min(pixels) < 0 or not sum(pixels) > 0:
        raise UserError(f"numbers of pixels must be 0 or more, and not all 0, got {list(pixels)}")
    return pixels
