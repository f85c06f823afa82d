"""The scores as a metric of mmengine's validation loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from torch import Tensor

from segkd.evaluation.scores import ConfusionMatrix


class MeanIoU(BaseMetric):
    """mIoU, mean accuracy and pixel accuracy (percent) over the whole validation set; label 255 takes no part.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(prefix="val", **kwargs)
        self.prefix = None  # the keys stay plain; mmengine warns about that only while it constructs
        self.num_classes = num_classes

    def process(self, data_batch: Mapping[str, Tensor], data_samples: Sequence[Tensor]) -> None:
        """Add one batch: ``label`` (N, H, W) against the predicted label maps (H, W)."""
        matrix = ConfusionMatrix(self.num_classes)
        for prediction, label in zip(data_samples, data_batch["label"], strict=True):
            matrix.update(prediction.cpu()[None], label.cpu()[None])
        self.results.append(matrix.counts)

    def evaluate(self, size: int) -> dict[str, float]:
        """Scores of the ``size`` images of all processes; mmengine's own would gather through files."""
        metrics = self.compute_metrics(self.results)
        self.results.clear()
        return metrics

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        """Scores of the summed confusion matrices."""
        matrix = ConfusionMatrix(self.num_classes)
        for counts in results:
            matrix.counts += counts
        matrix.all_reduce()
        scores = matrix.result()
        return {"mIoU": scores.miou, "mAcc": scores.mean_accuracy, "aAcc": scores.pixel_accuracy}
