"""Scores of label maps over a whole set: one confusion matrix, then mIoU, per-class IoU and the two accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from segkd.errors import UserError

IGNORE = 255
BYTES = 256


@dataclass(frozen=True)
class Scores:
    """Scores in percent (0..100).

    Attributes:
        miou: mean of ``iou`` over the classes that occur in the truth or in the prediction.
        iou: one value per class: 100 TP / (TP + FP + FN); NaN for a class absent from both. A class that is only
            predicted has 0 and counts.
        mean_accuracy: mean over the classes that occur in the truth of 100 TP / (TP + FN).
        pixel_accuracy: 100 * correct pixels / pixels.
        pixels: how many pixels were compared (void left out).

    With no pixel to compare all of them are NaN.
    """

    miou: float
    iou: tuple[float, ...]
    mean_accuracy: float
    pixel_accuracy: float
    pixels: int

    def as_dict(self, class_names: Sequence[str] | None = None) -> dict[str, object]:
        """The scores as JSON holds them, with ``iou`` as {class name: percent} in class order."""
        names = class_names if class_names is not None else [str(k) for k in range(len(self.iou))]
        if len(names) != len(self.iou):
            raise UserError(f"{len(names)} class names for the scores of {len(self.iou)} classes")
        return {
            "miou": self.miou,
            "mean_accuracy": self.mean_accuracy,
            "pixel_accuracy": self.pixel_accuracy,
            "pixels": self.pixels,
            "iou": dict(zip(names, self.iou, strict=True)),
        }


class ConfusionMatrix:
    """Pixel counts int64 over a set of images; row = truth, column = prediction.

    Counts are summed over the whole set before any ratio is taken, so the result does not depend on how images were
    batched or spread over processes (a mean of per-image IoUs would).

    ``counts`` is (K, K), or (K + 1, K + 1) with a last row and column for void if one of the options asks for it.

    Args:
        num_classes: K.
        ignore_index: label of void pixels, which are left out.
        count_void: do not leave them out: each is a false positive of the class predicted there.
        void_output: predictions may be K, void: at a labelled pixel a miss of its class.
    """

    def __init__(
        self, num_classes: int, ignore_index: int = IGNORE, count_void: bool = False, void_output: bool = False
    ) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.count_void = count_void
        self.void_output = void_output
        size = num_classes + (count_void or void_output)
        self.counts = torch.zeros(size, size, dtype=torch.int64)

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add predicted classes (N, H, W) in 0..K-1 against labels (N, H, W) in 0..K-1 or void."""
        if prediction.shape != label.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and label {tuple(label.shape)} differ in shape")
        base = max(BYTES, self.num_classes + 2, self.ignore_index + 1)
        if self.ignore_index < 0 or not (_within(label, base) and _within(prediction, base)):
            keep, void = label != self.ignore_index, base - 1
            counted = torch.ones_like(keep) if self.count_void else keep  # else void's predictions may be anything
            self._check("label", label[keep], self.num_classes)
            self._check("prediction", prediction[counted], self.num_classes + self.void_output)
            label, prediction = torch.where(keep, label, void), torch.where(counted, prediction, 0)
        else:
            void = self.ignore_index
        pairs = label.flatten().long() * base + prediction.flatten()  # all of them: masks cost more than they save
        self._add(torch.bincount(pairs, minlength=base * base).view(base, base).to(self.counts), void)

    def _add(self, pairs: Tensor, void: int) -> None:
        """Add counts by label and prediction, whose row ``void`` is that of void pixels."""
        labels = pairs.sum(1)
        labels[void] = 0
        self._check("label", labels.nonzero(), self.num_classes)
        counted = pairs.clone()
        if not self.count_void:
            counted[void] = 0
        limit = self.num_classes + self.void_output
        self._check("prediction", counted.sum(0).nonzero(), limit)
        self.counts[: self.num_classes, :limit] += pairs[: self.num_classes, :limit]
        if self.count_void:
            self.counts[-1, :limit] += pairs[void, :limit]

    def _check(self, name: str, values: Tensor, limit: int) -> None:
        wrong = values[(values < 0) | (values >= limit)]
        if wrong.numel():
            raise UserError(
                f"{name} {int(wrong[0])} is outside the {self.num_classes} classes "
                f"(0..{limit - 1}, {self.ignore_index} = ignore)"
            )

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of another part of the set."""
        if other.counts.shape != self.counts.shape:
            raise ValueError(f"cannot merge counts of {len(other.counts)} into {len(self.counts)} classes")
        self.counts += other.counts.to(self.counts)

    def all_reduce(self) -> None:
        """Sum the counts of all processes, in place; without a process group nothing happens."""
        self.counts = summed(self.counts)

    def sides(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels of each class, float64 (K,): those that are right, those labelled so, those predicted so."""
        counts, classes = self.counts.double(), self.num_classes
        return counts.diag()[:classes], counts[:classes].sum(1), counts.sum(0)[:classes]

    def result(self) -> Scores:
        """The scores of everything added so far."""
        hit, truth, guess = self.sides()
        iou = 100 * hit / (truth + guess - hit)  # 0 / 0 = NaN: the class occurs nowhere
        recall = 100 * hit / truth
        return Scores(
            miou=float(iou.nanmean()),
            iou=tuple(iou.tolist()),
            mean_accuracy=float(recall.nanmean()),
            pixel_accuracy=float(100 * hit.sum() / truth.sum()),
            pixels=int(truth.sum()),
        )


def summed(counts: Tensor) -> Tensor:
    """The sum over all processes, on the CPU; without a process group the tensor itself."""
    if not (dist.is_available() and dist.is_initialized()):
        return counts
    total = counts.to(torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu"))
    dist.all_reduce(total)
    return total.cpu()


def _within(values: Tensor, base: int) -> bool:
    if not values.numel():
        return True
    least, largest = torch.aminmax(values)
    return int(least) >= 0 and int(largest) < base
