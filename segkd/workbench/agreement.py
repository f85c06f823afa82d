"""How well a network's outputs agree with the labels, and by which order of its classes they would agree best."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from segkd.evaluation.scores import IGNORE

#: of each output of a network, the class of the data set that it means; None for void
Classes = tuple[int | None, ...]
RARE = 0.002  # of the labelled pixels: a class with fewer says nothing about the order of classes
SURE, UNSURE = 25.0, 0.4  # IoU (percent) of a class that was found elsewhere; its share where it was said to be
GAIN, FACTOR = 10.0, 1.25  # by which a mean IoU (percent) must grow to speak of another order
TIE = 3.0  # mean IoU (percent) that a simpler order may lack
LEAST_KAPPA = 0.5  # of an order that is believed
FREQUENT = 0.01  # of the labelled pixels: a class that a teacher must know
HALF, SHARE, SURELY = 0.5, 0.75, 0.9  # of the frequent classes, found by a preprocessing, by an order, by both


class Agreement(NamedTuple):
    """Scores of predictions against labels.

    miou: mean IoU (percent) over the classes that the labels hold; one that is only predicted does not count, as few
        images lack many classes.
    pixel_accuracy: percent of the labelled pixels.
    kappa: Cohen's: (accuracy - c) / (1 - c), where c is the accuracy of guesses that hold as many pixels of each class;
        0 for chance and for a constant answer, however many classes there are, 1 for the truth (Cohen, 1960).
    """

    miou: float
    pixel_accuracy: float
    kappa: float


def count_pairs(prediction: Tensor, label: Tensor, num_classes: int, outputs: int) -> Tensor:
    """Pixels (num_classes, outputs) by label and predicted output, both (N, H, W); void pixels are left out."""
    keep = (label != IGNORE) & (label >= 0) & (label < num_classes)
    pairs = label[keep].long() * outputs + prediction[keep].long()
    return torch.bincount(pairs, minlength=num_classes * outputs).view(num_classes, outputs).cpu()


def in_order(num_classes: int, outputs: int, shift: int = 0) -> Classes:
    """Output k + ``shift`` means class k; the outputs beyond are void."""
    return tuple(j - shift if 0 <= j - shift < num_classes else None for j in range(outputs))


def mapped(counts: Tensor, classes: Classes) -> Tensor:
    """Counts (K, K) in the data set's classes, of counts (K, M) by output; void answers are left out."""
    found = torch.zeros(len(counts), len(counts), dtype=torch.float64)
    for output, own in enumerate(classes):
        if own is not None:
            found[:, own] += counts[:, output]
    return found


def class_iou(counts: Tensor, classes: Classes) -> Tensor:
    """IoU (percent) of each class, float64 (K,); NaN for a class that the labels do not hold."""
    found, truth = mapped(counts, classes), counts.double().sum(1)
    hit = found.diag()
    return torch.where(truth > 0, 100 * hit / (truth + found.sum(0) - hit), torch.nan)


def agreement(counts: Tensor, classes: Classes) -> Agreement:
    """Scores of counts (K, M) whose outputs mean ``classes``; void answers at labelled pixels are wrong."""
    found, truth = mapped(counts, classes), counts.double().sum(1)
    total = truth.sum()
    right = found.diag().sum() / total
    chance = (truth * found.sum(0)).sum() / total.square()
    kappa = (right - chance) / (1 - chance) if chance < 1 else torch.zeros(())
    return Agreement(float(class_iou(counts, classes).nanmean()), float(100 * right), float(kappa))


def best_classes(counts: Tensor) -> Classes:
    """The one-to-one order of classes by which counts (K, M) agree best: the largest sum of IoUs (Kuhn, 1955).

    Where nothing speaks for another class, an output means the class of its own number; outputs left over are void.
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # takes 0.3 s, and only a bad teacher needs it

    own, outputs = counts.double(), counts.shape[1]
    union = own.sum(1, keepdim=True) + own.sum(0, keepdim=True) - own
    gain = torch.where(union > 0, own / union.clamp_min(1), 0.0) + 1e-3 * torch.eye(len(counts), outputs)
    rows, columns = linear_sum_assignment(gain.numpy(), maximize=True)
    means = dict(zip(columns.tolist(), rows.tolist(), strict=True))
    return tuple(means.get(j) for j in range(outputs))


def other_order(counts: Tensor, given: Classes, share: float = SHARE) -> Classes | None:
    """An order of classes by which counts (K, M) agree far better than by the ``given`` one; None if there is none.

    It is believed if it makes a good teacher: kappa is high, ``share`` of the frequent classes are found (noise agrees
    with some of them in its best order), and the mean IoU grows much, or two classes or more are found where others
    were said to be. An order that is only shifted is preferred.
    """
    num_classes, outputs = counts.shape
    before, best = agreement(counts, given), best_classes(counts)
    reach = agreement(counts, best).miou - TIE
    shifted = [in_order(num_classes, outputs, shift) for shift in (1, -1, 0)]
    for classes in [*(order for order in shifted if order != given), best]:
        after = agreement(counts, classes)
        better = after.miou >= max(before.miou + GAIN, before.miou * FACTOR) or len(_found(counts, given, classes)) > 1
        grown = after.miou > before.miou and after.kappa >= before.kappa
        if better and grown and after.miou >= reach and is_good(counts, classes, share):
            return classes
    return None


def is_good(counts: Tensor, classes: Classes, share: float) -> bool:
    """True if counts (K, M) are those of a teacher: of high kappa, with ``share`` of the frequent classes found."""
    return agreement(counts, classes).kappa >= LEAST_KAPPA and _share(counts, classes) >= share


def _share(counts: Tensor, classes: Classes) -> float:
    """Which part of the frequent classes that have an output is found there."""
    often = counts.double().sum(1) >= FREQUENT * counts.sum()
    known = torch.tensor([k in classes for k in range(len(counts))])
    found = class_iou(counts, classes)[often & known] >= SURE
    return float(found.double().mean()) if len(found) else 0.0


def _found(counts: Tensor, given: Classes, classes: Classes) -> list[int]:
    """The classes that were certainly found at other outputs than those that were said to be theirs."""
    before, after = class_iou(counts, given), class_iou(counts, classes)
    often = counts.double().sum(1) >= RARE * counts.sum()
    moved = {own for own, said in zip(classes, given, strict=True) if own is not None and own != said}
    sure = often & (after >= SURE) & (before <= UNSURE * after)
    return [k for k in sorted(moved) if bool(sure[k])]


def is_shift(classes: Classes, num_classes: int) -> int | None:
    """How far all outputs are shifted from their classes: 1 if output 0 is void; None for any other order."""
    for shift in (1, -1):
        if classes == in_order(num_classes, len(classes), shift):
            return shift
    return None


def described(classes: Classes, num_classes: int) -> str:
    """The number of the output that means each class, None for one without: ``classes=`` of ``load_teacher``."""
    found = [[j for j, own in enumerate(classes) if own == k] for k in range(num_classes)]
    return str([group[0] if len(group) == 1 else group or None for group in found])
