"""Metrics of boundaries: where a network is right away from them, these tell two networks apart.

What lies beside void is not known: a border with void is no boundary, in truth and prediction alike.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkd.evaluation.metric import METRICS, Classes, Result, Score
from segkd.evaluation.scores import IGNORE, ConfusionMatrix, summed

Map = NDArray[np.int32]
Mask = NDArray[np.bool_]
BAND = 0.02  # of the image's diagonal: Cheng et al., section 5
TOLERANCE = 0.0075  # of the image's diagonal: Csurka et al., section 3.2
LARGEST, SMALLEST = 65535, 0  # what void counts as, for a minimum and for a maximum


def is_mixed(classes: Map, void: Mask, distance: int) -> Mask:
    """Pixels (H, W) with another class within ``distance``, by king's moves; void is no other class."""
    window = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    least = cv2.erode(np.where(void, LARGEST, classes).astype(np.uint16), window)  # beyond the image is nothing
    most = cv2.dilate(np.where(void, SMALLEST, classes).astype(np.uint16), window)
    found: Mask = (least != most) & ~void
    return found


def inner_boundary(classes: Map, void: Mask, distance: int) -> Mask:
    """Pixels (H, W) with another class, or the image's border, within ``distance``."""
    found = is_mixed(classes, void, distance)
    for side in (found, found[::-1], found.T, found.T[::-1]):
        side[:distance] = True
    return found & ~void


class OfImages(Score):
    """A metric that sees image by image."""

    def update(self, prediction: Tensor, label: Tensor, **seen: Tensor) -> None:
        """See ``Score``."""
        for guess, truth in zip(prediction.cpu().numpy(), label.cpu().numpy(), strict=True):
            void = truth == IGNORE
            self.add(guess.astype(np.int32), truth.astype(np.int32), void, math.hypot(*truth.shape))

    def add(self, guess: Map, truth: Map, void: Mask, diagonal: float) -> None:
        """Add one image (H, W)."""
        raise NotImplementedError


@METRICS.register("boundary_iou")
class BoundaryIoU(OfImages):
    """IoU of the bands inside of the boundaries of truth and prediction, mean over the classes.

    For each class |(G_d & G) & (P_d & P)| / |(G_d & G) | (P_d & P)|, where G_d are the pixels within d = 2 % of the
    image's diagonal of G's boundary, the image's border among it (Cheng et al., arXiv 2103.16562, equation 3). Pixels
    are summed over the images, as for IoU.
    """

    title = "boundary IoU"

    def __init__(self, data: Classes) -> None:
        super().__init__(data)
        self.reset()

    def reset(self) -> None:
        """See ``Score``."""
        self.counts = torch.zeros(3, self.data.num_classes, dtype=torch.int64)  # in both, in the truth, in the guess

    def add(self, guess: Map, truth: Map, void: Mask, diagonal: float) -> None:
        """See ``OfImages``."""
        distance, classes = max(1, round(BAND * diagonal)), self.data.num_classes
        in_truth, in_guess = inner_boundary(truth, void, distance), inner_boundary(guess, void, distance)
        both = in_truth & in_guess & (truth == guess)
        counts = [
            np.bincount(values[mask], minlength=classes)[:classes]
            for values, mask in ((truth, both), (truth, in_truth), (guess, in_guess))
        ]
        self.counts += torch.from_numpy(np.stack(counts))

    def all_reduce(self) -> None:
        """See ``Score``."""
        self.counts = summed(self.counts)

    def result(self, matrix: ConfusionMatrix) -> Result:
        """See ``Score``."""
        both, truth, guess = self.counts.double()
        values = 100 * both / (truth + guess - both)
        names = self.data.class_names
        return Result(float(values.nanmean()), dict(zip(names, values.tolist(), strict=True)))


@METRICS.register("boundary_f1")
class BoundaryF1(OfImages):
    """F1 of contours: of the predicted ones near the true ones, and of the true ones near the predicted.

    A contour is the pixels of a class with another one among their 8 neighbours; near is within 0.75 % of the image's
    diagonal. Each class has an F1 in each image where it has a contour, 0 if in truth or prediction alone; its score is
    their mean, and the metric the mean over the classes (Csurka et al., BMVC 2013, section 3.2).
    """

    title = "boundary F1"

    def __init__(self, data: Classes) -> None:
        super().__init__(data)
        self.reset()

    def reset(self) -> None:
        """See ``Score``."""
        self.sums = torch.zeros(2, self.data.num_classes, dtype=torch.float64)  # of F1, and images

    def add(self, guess: Map, truth: Map, void: Mask, diagonal: float) -> None:
        """See ``OfImages``."""
        tolerance = max(1.0, TOLERANCE * diagonal)
        contours = [np.where(is_mixed(classes, void, 1), classes, -1) for classes in (truth, guess)]
        for k in range(self.data.num_classes):
            score = contour_f1(contours[0] == k, contours[1] == k, tolerance)
            if not math.isnan(score):
                self.sums[:, k] += torch.tensor([score, 1.0], dtype=torch.float64)

    def all_reduce(self) -> None:
        """See ``Score``."""
        self.sums = summed(self.sums)

    def result(self, matrix: ConfusionMatrix) -> Result:
        """See ``Score``."""
        values = 100 * self.sums[0] / self.sums[1]
        names = self.data.class_names
        return Result(float(values.nanmean()), dict(zip(names, values.tolist(), strict=True)))


def contour_f1(truth: Mask, guess: Mask, tolerance: float) -> float:
    """F1 of two contours (H, W), 0..1, whose points match within ``tolerance`` pixels; NaN without any."""
    boxes = [cv2.boundingRect(mask.view(np.uint8)) for mask in (truth, guess)]
    if not (boxes[0][2] and boxes[1][2]):
        return math.nan if not (boxes[0][2] or boxes[1][2]) else 0.0
    left, top = (min(box[k] for box in boxes) for k in (0, 1))
    right, bottom = (max(box[k] + box[k + 2] for box in boxes) for k in (0, 1))
    pair = [mask[top:bottom, left:right] for mask in (truth, guess)]
    far = [cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for mask in pair]
    recall, precision = (float((far[1 - k][pair[k]] <= tolerance).mean()) for k in (0, 1))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
