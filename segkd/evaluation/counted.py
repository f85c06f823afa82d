"""Metrics of the confusion matrix alone: they cost nothing beside mIoU."""

from __future__ import annotations

import torch
from torch import Tensor

from segkd.evaluation.metric import METRICS, Classes, Result, Score, lacks
from segkd.evaluation.scores import ConfusionMatrix


class OfClasses(Score):
    """A metric with a value for each class, and their mean over the classes that have one."""

    def result(self, matrix: ConfusionMatrix) -> Result:
        """See ``Score``."""
        values = 100 * self.values(*matrix.sides())
        names = self.data.class_names
        return Result(float(values.nanmean()), dict(zip(names, values.tolist(), strict=True)))

    def values(self, hit: Tensor, truth: Tensor, guess: Tensor) -> Tensor:
        """The value of each class (K,), 0..1, of its pixels float64 (K,) that are right, labelled, and predicted."""
        raise NotImplementedError


@METRICS.register("miou")
class MeanIntersection(OfClasses):
    """Mean over the classes of TP / (TP + FP + FN); those without a pixel in truth and prediction take no part."""

    title = "mIoU"

    def values(self, hit: Tensor, truth: Tensor, guess: Tensor) -> Tensor:
        return hit / (truth + guess - hit)


@METRICS.register("macc")
class MeanAccuracy(OfClasses):
    """Mean over the classes that occur in the truth of TP / (TP + FN): the same as ``recall``."""

    title = "mAcc"

    def values(self, hit: Tensor, truth: Tensor, guess: Tensor) -> Tensor:
        return hit / truth


@METRICS.register("recall")
class Recall(MeanAccuracy):
    """Mean over the classes that occur in the truth of TP / (TP + FN)."""

    title = "recall"


@METRICS.register("precision")
class Precision(OfClasses):
    """Mean of TP / (TP + FP) over the classes that occur; one that is never predicted has 0."""

    title = "precision"

    def values(self, hit: Tensor, truth: Tensor, guess: Tensor) -> Tensor:
        return torch.where((guess == 0) & (truth > 0), 0.0, hit / guess)


@METRICS.register("f1")
class F1(OfClasses):
    """Mean over the classes of 2 TP / (2 TP + FP + FN), the Dice coefficient."""

    title = "F1"

    def values(self, hit: Tensor, truth: Tensor, guess: Tensor) -> Tensor:
        return 2 * hit / (truth + guess)


@METRICS.register("aacc")
class PixelAccuracy(Score):
    """Share of all labelled pixels that are right."""

    title = "aAcc"

    def result(self, matrix: ConfusionMatrix) -> Result:
        """See ``Score``."""
        hit, truth, _ = matrix.sides()
        return Result(float(100 * hit.sum() / truth.sum()))


@METRICS.register("fwiou")
class FrequencyWeighted(Score):
    """IoU of the classes, weighted by their share of the labelled pixels (Long et al., arXiv 1411.4038, section 5)."""

    title = "fwIoU"

    def result(self, matrix: ConfusionMatrix) -> Result:
        """See ``Score``."""
        hit, truth, guess = matrix.sides()
        iou = (hit / (truth + guess - hit)).nan_to_num()
        return Result(float(100 * (truth * iou).sum() / truth.sum()))


@METRICS.register("category_iou")
class CategoryIoU(Score):
    """Mean IoU of categories of classes: a class taken for another one of its category is right (Cityscapes)."""

    title = "category IoU"

    def __init__(self, data: Classes) -> None:
        super().__init__(data)
        self.members = category_members("category_iou", data)

    def result(self, matrix: ConfusionMatrix) -> Result:
        """See ``Score``."""
        found = {}
        for name, members in self.members.items():
            truth = matrix.counts[members].sum().double()
            hit = matrix.counts[members][:, members].sum().double()
            found[name] = float(100 * hit / (truth + category_misled(matrix, members)))
        return Result(float(torch.tensor(list(found.values()), dtype=torch.float64).nanmean()), found)


def category_members(metric: str, data: Classes) -> dict[str, list[int]]:
    """category -> the numbers of its classes; a UserError where the data set has none."""
    categories = getattr(data, "categories", None)
    if not categories:
        raise lacks(metric, data, "categories of classes", "cityscapes")
    names = list(data.class_names)
    return {category: [names.index(name) for name in members] for category, members in categories.items()}


def category_misled(matrix: ConfusionMatrix, members: list[int]) -> Tensor:
    """How many pixels of other categories are taken for these classes."""
    counts = matrix.counts[:, members]
    return (counts.sum() - counts[members].sum()).double()
