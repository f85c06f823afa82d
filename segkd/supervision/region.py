"""Losses about regions and rare pixels: Dice, Lovász-softmax, focal. Shapes: logits (N, K, H, W), label (N, H, W)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.arguments import flag, integer, number
from segkd.errors import UserError, nearest
from segkd.supervision.cross_entropy import IGNORE_INDEX, mean_over_processes, sum_over_processes, upcast, weight_tensor

FORMS = ("softmax", "sigmoid")


def dice_by_class(probability: Tensor, target: Tensor, smooth: float = 0.0, shared: bool = False) -> Tensor:
    """``1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth)`` of each class.

    Args:
        probability, target: (P, K) of P pixels, the target 0 or 1.
        smooth: added above and below.
        shared: the sums are those over all processes.
    """
    sums = torch.stack([(probability * target).sum(0), probability.sum(0) + target.sum(0)])
    overlap, total = sum_over_processes(sums) if shared else sums
    found: Tensor = 1 - (2 * overlap + smooth) / (total + smooth).clamp(min=1e-7)
    return found


def lovasz_by_class(probability: Tensor, target: Tensor) -> Tensor:
    """Lovász extension of ``1 - IoU`` of each class, at the errors ``|t - p|`` (Berman et al., CVPR 2018, eq. 9, 11).

    Args:
        probability, target: (P, K) of P pixels, the target 0 or 1.
    """
    errors, order = (target - probability).abs().sort(0, descending=True)
    found = target.gather(0, order)
    missed, total = found.cumsum(0), found.sum(0)
    jaccard = 1 - (total - missed) / (total + (1 - found).cumsum(0)).clamp(min=1)
    steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return (errors * steps).sum(0)


class _ByClass(nn.Module):
    """Base of losses that give a value for each class that the label has, whose (weighted) mean they are."""

    shared = False  # the label is that of all processes
    class_weight: Tensor | None

    def __init__(self, class_weight: Sequence[float] | None, per_image: bool, ignore_index: int) -> None:
        super().__init__()
        owner = type(self).__name__
        self.register_buffer("class_weight", weight_tensor(class_weight), persistent=False)
        self.per_image = flag(per_image, "per_image", owner)
        self.ignore_index = integer(ignore_index, "ignore_index", owner, least=None)

    def _by_class(self, probability: Tensor, target: Tensor) -> Tensor:
        """Probabilities and targets (P, K) -> (K,)."""
        raise NotImplementedError

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        logits = upcast(logits)
        if not self.per_image:
            return self._of(logits.movedim(1, -1), label)
        here = (label != self.ignore_index).flatten(1).any(1).sum().to(logits.dtype)
        total = torch.stack([self._of(one.movedim(0, -1), own) for one, own in zip(logits, label, strict=True)]).sum()
        return total / mean_over_processes(here).clamp(min=1.0)

    def _of(self, logits: Tensor, label: Tensor) -> Tensor:
        """The mean over the classes of a label; 0 of one that is all void."""
        valid = label != self.ignore_index
        probability, label = logits[valid].softmax(-1), label[valid]
        target = F.one_hot(label, logits.shape[-1]).to(probability.dtype)
        counts = mean_over_processes(target.sum(0)) if self.shared else target.sum(0)
        factors = (counts > 0).to(probability.dtype)
        if self.class_weight is not None:
            factors = factors * self.class_weight.to(probability.dtype)
        return (self._by_class(probability, target) * factors).sum() / factors.sum().clamp(min=1e-6)


class Dice(_ByClass):
    """Dice loss over the valid pixels: the mean over the label's classes of ``1 - 2 sum(p t) / (sum(p) + sum(t))``.

    Beside cross entropy it is a term of its own on the same logits: ``supervision = dict(main={}, dice=dict(loss=
    dict(type=Dice), weight=1.0))``. Zero, with zero gradient, where every pixel is ignored. The sums are those over
    all processes. segmentation-models-pytorch divides by all K classes, those that the label lacks too: its value is
    this one times their part.

    Args:
        class_weight: K factors of the classes in the mean, or None.
        smooth: added to both sides of the fraction (twice that of segmentation-models-pytorch).
        per_image: sums over each image; by default over all pixels of the batch.
        ignore_index: the label that takes no part.
    """

    def __init__(
        self,
        class_weight: Sequence[float] | None = None,
        smooth: float = 0.0,
        per_image: bool = False,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(class_weight, per_image, ignore_index)
        self.smooth = number(smooth, "smooth", "Dice", least=0)
        self.shared = not self.per_image

    def _by_class(self, probability: Tensor, target: Tensor) -> Tensor:
        return dice_by_class(probability, target, self.smooth, self.shared)


class Lovasz(_ByClass):
    """Lovász-softmax loss (Berman et al., CVPR 2018): a convex stand-in for ``1 - IoU``, mean over the label's classes.

    It sorts all valid pixels once for each class. Zero, with zero gradient, where every pixel is ignored. Each process
    has that of its own pixels, so the result depends on how a batch is spread.

    Args:
        class_weight: K factors of the classes in the mean, or None.
        per_image: the IoU of each image; by default that of all pixels of the batch.
        ignore_index: the label that takes no part.
    """

    def __init__(
        self,
        class_weight: Sequence[float] | None = None,
        per_image: bool = False,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(class_weight, per_image, ignore_index)

    def _by_class(self, probability: Tensor, target: Tensor) -> Tensor:
        return lovasz_by_class(probability, target)


class Focal(nn.Module):
    """Focal loss: cross entropy times ``(1 - p) ** gamma``, so that easy pixels count less (Lin et al., ICCV 2017).

    - "softmax": of the true class's probability; with ``gamma=0`` it is ``CrossEntropy``. A mean over valid pixels,
      across processes too.
    - "sigmoid": as published, K binary losses of each pixel, their mean; as in segmentation-models-pytorch.

    Zero, with zero gradient, where every pixel is ignored.

    Args:
        gamma: how much less an easy pixel counts; 0 for not at all.
        alpha: with "sigmoid", the factor of a pixel of the class, ``1 - alpha`` that of the others; None for neither.
        class_weight: K factors; the sum is divided by theirs.
        form: "softmax" or "sigmoid".
        ignore_index: the label that takes no part.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = None,
        class_weight: Sequence[float] | None = None,
        form: str = "softmax",
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise UserError(f"Focal: form cannot be {form!r}; {nearest(str(form), FORMS)}")
        if alpha is not None and form == "softmax":
            raise UserError("Focal: alpha balances one class against the rest, in form='sigmoid'; give class_weight")
        self.gamma = number(gamma, "gamma", "Focal", least=0)
        self.alpha = None if alpha is None else number(alpha, "alpha", "Focal", least=0, most=1)
        self.register_buffer("class_weight", weight_tensor(class_weight), persistent=False)
        self.by_sigmoid = form == "sigmoid"
        self.ignore_index = integer(ignore_index, "ignore_index", "Focal", least=None)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        valid = label != self.ignore_index
        logits, label = upcast(logits).movedim(1, -1)[valid], label[valid]
        return self._sigmoid(logits, label) if self.by_sigmoid else self._softmax(logits, label)

    def _softmax(self, logits: Tensor, label: Tensor) -> Tensor:
        """(P, K) and (P,)."""
        loss = self._eased(F.cross_entropy(logits, label, reduction="none"))
        if self.class_weight is None:
            return loss.sum() / mean_over_processes(loss.new_tensor(float(len(label)))).clamp(min=1.0)
        weight = self.class_weight.to(loss.dtype)[label]
        return (weight * loss).sum() / mean_over_processes(weight.sum()).clamp(min=1e-6)

    def _sigmoid(self, logits: Tensor, label: Tensor) -> Tensor:
        target = F.one_hot(label, logits.shape[-1]).to(logits.dtype)
        loss = self._eased(F.binary_cross_entropy_with_logits(logits, target, reduction="none"))
        if self.alpha is not None:
            loss = loss * (self.alpha * target + (1 - self.alpha) * (1 - target))
        factors = torch.ones_like(loss[:1].sum(0)) if self.class_weight is None else self.class_weight.to(loss.dtype)
        count = mean_over_processes(loss.new_tensor(float(len(label)))).clamp(min=1.0)
        return (loss.sum(0) * factors).sum() / (factors.sum().clamp(min=1e-6) * count)

    def _eased(self, loss: Tensor) -> Tensor:
        """Cross entropies times what is left of easy ones."""
        if self.gamma == 0:
            return loss
        smallest = torch.finfo(loss.dtype).tiny  # where the root of 0 has no slope
        eased: Tensor = (-torch.expm1(-loss)).clamp(min=smallest) ** self.gamma * loss
        return eased
