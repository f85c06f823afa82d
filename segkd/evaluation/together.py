"""Several metrics by name, over one confusion matrix."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor

from segkd.evaluation.metric import Classes, Result, create_metrics
from segkd.evaluation.scores import ConfusionMatrix


class Metrics:
    """Metrics by their names, seen to together: reset, update with each batch, compute.

    Args:
        names: of the metrics.
        data: the data set, or what has its ``num_classes`` and ``class_names``.
        matrix: the kind of confusion matrix, without counts (default: a plain one).

    Raises:
        UserError: a name that there is not, or a metric that the data set cannot give.
    """

    def __init__(self, names: Sequence[str], data: Classes, matrix: ConfusionMatrix | None = None) -> None:
        self.own = create_metrics(names, data)
        self._empty = matrix or ConfusionMatrix(data.num_classes)
        self.needs = {need for metric in self.own.values() for need in metric.needs}
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.matrix = copy.deepcopy(self._empty)
        for metric in self.own.values():
            metric.reset()

    def update(self, prediction: Tensor, label: Tensor, **seen: Tensor) -> None:
        """Add predicted classes (N, H, W) against labels (N, H, W), and what ``needs`` names."""
        self.matrix.update(prediction, label)
        for metric in self.own.values():
            metric.update(prediction, label, **{need: seen[need] for need in metric.needs})

    def results(self) -> dict[str, Result]:
        """name -> what was found in all batches of this process."""
        return {name: metric.result(self.matrix) for name, metric in self.own.items()}

    def compute(self) -> dict[str, float]:
        """title -> score of all batches of all processes."""
        self.matrix.all_reduce()
        for metric in self.own.values():
            metric.all_reduce()
        return {self.own[name].title: result.value for name, result in self.results().items()}

    def per_class(self) -> tuple[float, ...]:
        """IoU (percent) of each class, once computed; NaN for one that occurs neither in truth nor in prediction."""
        return self.matrix.result().iou

    def falling(self) -> list[str]:
        """Titles of those that are the better the smaller they are."""
        return [metric.title for metric in self.own.values() if not metric.rising]
