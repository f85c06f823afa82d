"""The calibration of a network: is it as often right as it is sure?"""

from __future__ import annotations

import torch
from torch import Tensor

from segkd.evaluation.metric import CONFIDENCE, METRICS, Classes, Result, Score
from segkd.evaluation.scores import IGNORE, ConfusionMatrix, summed

BINS = 15


@METRICS.register("ece")
class CalibrationError(Score):
    """Expected calibration error in percent, the smaller the better.

    Labelled pixels go by the probability of their predicted class into 15 bins of equal width; the distance of the
    bin's accuracy from its mean probability is weighted by pixels (Guo et al., arXiv 1706.04599, equation 3).
    """

    title = "ECE"
    needs = (CONFIDENCE,)
    rising = False

    def __init__(self, data: Classes) -> None:
        super().__init__(data)
        self.reset()

    def reset(self) -> None:
        """See ``Score``."""
        self.sums = torch.zeros(3, BINS, dtype=torch.float64)  # pixels, those that are right, their probabilities

    def update(self, prediction: Tensor, label: Tensor, **seen: Tensor) -> None:
        """See ``Score``."""
        valid = label != IGNORE
        sure = seen[CONFIDENCE][valid].double()
        right = (prediction == label)[valid].double()
        bins = (sure * BINS).long().clamp_(0, BINS - 1)
        for row, weights in enumerate((None, right, sure)):
            self.sums[row] += torch.bincount(bins, weights, BINS).to(self.sums)

    def all_reduce(self) -> None:
        """See ``Score``."""
        self.sums = summed(self.sums)

    def result(self, matrix: ConfusionMatrix) -> Result:
        """See ``Score``."""
        pixels, right, sure = self.sums
        return Result(float(100 * (right - sure).abs().sum() / pixels.sum()))
