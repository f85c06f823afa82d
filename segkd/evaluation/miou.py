"""Scores of a validation as a metric: reset, update with each batch, compute."""

from __future__ import annotations

from torch import Tensor

from segkd.evaluation.metric import Metric as Metric
from segkd.evaluation.scores import ConfusionMatrix


class MeanIoU:
    """mIoU, mean accuracy and pixel accuracy (percent) over the whole validation set; label 255 takes no part.

    Args:
        num_classes: K.
    """

    names = ("mIoU", "mAcc", "aAcc")

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.matrix = ConfusionMatrix(self.num_classes)

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add predicted classes (N, H, W) against labels (N, H, W)."""
        self.matrix.update(prediction.cpu(), label.cpu())

    def compute(self) -> dict[str, float]:
        """{"mIoU", "mAcc", "aAcc"} of all batches of all processes."""
        self.matrix.all_reduce()
        scores = self.matrix.result()
        return dict(zip(self.names, (scores.miou, scores.mean_accuracy, scores.pixel_accuracy), strict=True))

    def per_class(self) -> tuple[float, ...]:
        """IoU (percent) of each class, once computed; NaN for one that occurs neither in truth nor in prediction."""
        return self.matrix.result().iou
