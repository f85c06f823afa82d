"""Losses about the boundaries between classes. Shapes: logits (N, K, H, W), label (N, H, W) int64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.arguments import flag, integer, number, numbers
from segkd.errors import UserError
from segkd.registry import build
from segkd.supervision.cross_entropy import IGNORE_INDEX, CrossEntropy, mean_over_processes, upcast
from segkd.supervision.edges import boundary_distance, boundary_target, detail_target


class BoundaryBCE(nn.Module):
    """Binary cross entropy of one logit with PIDNet's boundary map of the label, balanced between both kinds of pixels.

    ``sum(w * bce) / count``, where ``w`` is the part of the other kind: that of the non-boundary pixels on a boundary.
    The parts and the count are those of the whole batch, averaged over processes. The published factor, 20, is the
    term's ``weight``.

    The map is made of the label as it enters the loss, that is, after augmentation, on its device: the edges of
    ``cv2.Canny`` exactly, computed without it. (The authors make it of the whole image's label, then resize and crop
    both.)

    Args:
        width: edges are dilated by a square of this side.
        border: pixels at each side of the image in which there is no edge.
        void_is_class: as the authors have it: where a class meets void is a boundary, and void pixels take part. Label
            that was padded with void then gets a boundary where the padding begins.
        ignore_index: void.
    """

    def __init__(
        self, width: int = 4, border: int = 6, void_is_class: bool = False, ignore_index: int = IGNORE_INDEX
    ) -> None:
        super().__init__()
        self.width, self.border = (
            integer(width, "width", "BoundaryBCE"),
            integer(border, "border", "BoundaryBCE", least=0),
        )
        self.void_is_class = flag(void_is_class, "void_is_class", "BoundaryBCE")
        self.ignore_index = integer(ignore_index, "ignore_index", "BoundaryBCE", least=None)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Logits (N, 1, H, W)."""
        logit = one_logit(logits, "BoundaryBCE")
        valid = torch.ones_like(label, dtype=torch.bool) if self.void_is_class else label != self.ignore_index
        target = boundary_target(label, valid, self.width, self.border)
        loss = F.binary_cross_entropy_with_logits(logit, target.to(logit.dtype), reduction="none")
        kinds = torch.stack([target & valid, ~target & valid])  # (2, N, H, W)
        counts = mean_over_processes(kinds.sum((1, 2, 3)).to(loss.dtype))
        totals = (loss * kinds).sum((1, 2, 3))
        return (totals * counts.flip(0)).sum() / counts.sum().clamp(min=1.0).square()


class BoundaryAwareCE(nn.Module):
    """PIDNet's boundary-aware loss: that of the logits over those pixels alone where another head sees a boundary.

    Its term names that head's term: ``gate="boundary"``. The gate gets no gradient.

    Args:
        threshold: probability of a boundary above which a pixel counts.
        loss: of the logits; by default ``CrossEntropy``. PIDNet's is ``OHEM``.
        ignore_index: the label that takes no part.
    """

    uses_gate = True

    def __init__(self, threshold: float = 0.8, loss: Any = None, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.threshold = number(threshold, "threshold", "BoundaryAwareCE", least=0, below=1)
        self.ignore_index = integer(ignore_index, "ignore_index", "BoundaryAwareCE", least=None)
        self.loss = build(loss or dict(type=CrossEntropy, ignore_index=ignore_index), "loss")

    def forward(self, logits: Tensor, label: Tensor, gate: Tensor) -> Tensor:
        """Logits (N, K, H, W), label (N, H, W), gate's logit (N, 1, H, W)."""
        seen = one_logit(gate, "BoundaryAwareCE's gate").sigmoid() > self.threshold
        value: Tensor = self.loss(logits, label.masked_fill(~seen, self.ignore_index))
        return value


class DetailLoss(nn.Module):
    """STDC's loss of one logit with the label's details: binary cross entropy plus dice (Fan et al., CVPR 2021).

    The details are where the label's Laplacian, at strides 1, 2 and 4, is above a threshold; the three maps are fused
    by a weighted sum and thresholded again. The authors keep the weights of that sum as a parameter, to which no
    gradient can come through the threshold: here they are constants. With the published ones the last map alone is not
    above the threshold, so it decides nothing.

    Cross entropy is a mean over valid pixels, dice ``1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1)`` a mean over
    samples.

    Args:
        strides, fuse: of the Laplacians, and their weights.
        threshold: of the Laplacians and of their sum.
        void_is_class: as the authors have it: void next to a class is a detail, and void pixels take part.
        ignore_index: void.
    """

    def __init__(
        self,
        strides: Sequence[int] = (1, 2, 4),
        fuse: Sequence[float] = (0.6, 0.3, 0.1),
        threshold: float = 0.1,
        void_is_class: bool = False,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        if not strides or len(strides) != len(fuse):
            raise UserError(f"DetailLoss: as many strides as weights in fuse, got {strides} and {fuse}")
        self.strides = tuple(integer(stride, "strides", "DetailLoss") for stride in strides)
        self.fuse = numbers(fuse, "fuse", "DetailLoss", least=0)
        self.threshold = number(threshold, "threshold", "DetailLoss", least=0)
        self.void_is_class = flag(void_is_class, "void_is_class", "DetailLoss")
        self.ignore_index = integer(ignore_index, "ignore_index", "DetailLoss", least=None)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Logits (N, 1, H, W)."""
        logit = one_logit(logits, "DetailLoss")
        valid = torch.ones_like(label, dtype=torch.bool) if self.void_is_class else label != self.ignore_index
        target = detail_target(label, valid, self.strides, self.fuse, self.threshold).to(logit.dtype)
        entropy = F.binary_cross_entropy_with_logits(logit, target, reduction="none")[valid].sum()
        probability, target = logit.sigmoid() * valid, target * valid
        overlap = (probability * target).sum((1, 2))
        dice = 1 - (2 * overlap + 1) / (probability.sum((1, 2)) + target.sum((1, 2)) + 1)
        here = torch.stack([valid.sum(), valid.any(2).any(1).sum()]).to(logit.dtype)
        pixels, samples = mean_over_processes(here).clamp(min=1.0)
        value: Tensor = entropy / pixels + dice.sum() / samples
        return value


class BoundaryWeightedCE(nn.Module):
    """Cross entropy with a larger factor the nearer a pixel is to another class (SwiftNet's, with pyramid).

    ``sum(alpha(distance) * exp(gamma * (1 - p)) * ce) / count(valid)``; ``p`` is the true class's probability. The
    distance is that of ``cv2.distanceTransform`` with a 5x5 mask, computed without it on the label's device: 1 beside
    another class.

    Args:
        distances: increasing limits, in pixels, between which the factor is constant; a pixel at a limit has the
            farther one's.
        factors: one more than limits, from the nearest pixels to the farthest.
        gamma: how much harder pixels count more; 0 for not at all.
        void_is_class: as the authors have it: next to void a pixel is beside another class. Void pixels take no part
            all the same, but padding with void then makes a boundary.
        ignore_index: the label that takes no part.
    """

    def __init__(
        self,
        distances: Sequence[int] = (4, 16, 64, 128),
        factors: Sequence[float] = (8.0, 6.0, 4.0, 2.0, 1.0),
        gamma: float = 0.5,
        void_is_class: bool = False,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        if list(distances) != sorted(set(distances)) or len(factors) != len(distances) + 1:
            raise UserError(
                f"BoundaryWeightedCE: increasing distances and one more factor, got {distances} and {factors}"
            )
        self.distances = tuple(integer(distance, "distances", "BoundaryWeightedCE") for distance in distances)
        self.gamma = number(gamma, "gamma", "BoundaryWeightedCE", least=0)
        self.void_is_class = flag(void_is_class, "void_is_class", "BoundaryWeightedCE")
        self.ignore_index = integer(ignore_index, "ignore_index", "BoundaryWeightedCE", least=None)
        given = numbers(factors, "factors", "BoundaryWeightedCE", least=0)
        self.register_buffer("factors", torch.tensor(given, dtype=torch.float32), persistent=False)

    factors: Tensor

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        logits, valid = upcast(logits), label != self.ignore_index
        loss = F.cross_entropy(logits, label, ignore_index=self.ignore_index, reduction="none")
        weight = self.pixel_factors(label).to(loss.dtype) * (self.gamma * (1 - (-loss.detach()).exp())).exp()
        count = mean_over_processes(valid.sum().to(loss.dtype))
        return (weight * loss)[valid].sum() / count.clamp(min=1.0)

    def pixel_factors(self, label: Tensor) -> Tensor:
        """Label (N, H, W) -> factors (N, H, W) by the distance to another class."""
        valid = torch.ones_like(label, dtype=torch.bool) if self.void_is_class else label != self.ignore_index
        distance = boundary_distance(label, valid, self.distances[-1])
        return self.factors[torch.bucketize(distance, distance.new_tensor(self.distances), right=True)]


def one_logit(logits: Tensor, name: str) -> Tensor:
    """(N, 1, H, W) -> (N, H, W) in at least float32; other channel counts are a UserError."""
    if logits.shape[1] != 1:
        raise UserError(f"{name} takes one logit a pixel, got {logits.shape[1]}; use head=dict(type=BoundaryHead)")
    return upcast(logits[:, 0])
