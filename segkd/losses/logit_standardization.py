"""Logit standardization in knowledge distillation (Sun et al., CVPR 2024, arXiv 2403.01427)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from segkd.errors import UserError
from segkd.losses import kd
from segkd.losses.base import (
    LOSSES,
    DistillationLoss,
    Tensors,
    check_logits,
    no_autocast,
    single,
    upcast,
    valid_mask,
)
from segkd.losses.dkd import DecoupledKD

NAME = "LogitStandardization"
EPS = 1e-7  # the published one, added to the deviation
CONSTANT = 1e-5  # logits whose deviation is below this share of their root mean square are constant
FAINT = 1e-4  # and so are those of a smaller deviation: their gradient would be more than half precision holds


def standardize(logits: Tensor) -> Tensor:
    """``z = (l - mean(l)) / (1e-7 + std(l))`` over the classes, std with K - 1 in the denominator.

    That is the authors' code; the paper's Algorithm 1 has K there and no 1e-7. Both differ by a factor that acts as a
    temperature higher by sqrt(K / (K - 1)): 2.7 % for 19 classes.

    Args:
        logits: (N, K, H, W) or (N, K).

    Returns:
        As the input, in at least float32. 0 without gradient where all classes have one logit, up to a
        deviation of 1e-4, and for K = 1.
    """
    with no_autocast(logits):
        x = upcast(logits)
        classes = x.shape[1]
        size = x.detach().square().sum(1, keepdim=True)
        x = x - x.mean(1, keepdim=True)
        squares = x.square().sum(1, keepdim=True)
        variance = squares / max(classes - 1, 1)
        varies = (squares > CONSTANT**2 * size) & (variance > FAINT**2)
        deviation = torch.where(varies, variance, 1).sqrt()
        return torch.where(varies, x, 0) / (EPS + deviation)


@LOSSES.register("logit_standardization")
class LogitStandardization(DistillationLoss):
    """A loss of logits, ``kd`` or ``dkd``, on the ``standardize``d logits of both networks (Algorithm 2 of the paper).

    The student then has to give the teacher's logits up to a factor and a shift per pixel. Taps: the logits of both
    networks, before they are upsampled.

    Published for classification only: kd at T = 2 with weight 9, dkd at T = 2 with its alpha and beta times 9. The
    weight means the same here, per pixel. torchdistill standardises the last dimension, which is the width of a map;
    the paper's, and ours, is the classes. Where all logits are equal (a classifier that starts from 0) the published
    form has a gradient of 1e7 times the usual; here it has none. A batch repeated twice and a map tiled 2 x 2 give
    the same value.

    Args:
        loss: config of the loss: ``dict(type="kd", temperature=2.0)`` (the default), or of ``dkd``.

    >>> import torch
    >>> logits = torch.randn(2, 19, 8, 16)
    >>> abs(float(LogitStandardization()(3 * logits + 5, logits))) < 1e-5
    True
    """

    published_scale = {
        "authors": "1",  # around kd: T^2 * mean over rows, as here
        "torchdistill": "H * W / T**2",  # around kd, rows alone (H = W = 1); no T^2 unless it is given an alpha
    }

    def __init__(self, loss: Mapping[str, Any] | DistillationLoss | None = None) -> None:
        super().__init__()
        built = LOSSES.build({"type": "kd", "temperature": 2.0} if loss is None else loss)
        if not isinstance(built, kd.PixelwiseKD | DecoupledKD):
            raise UserError(
                f"{NAME} goes around kd or dkd, got {type(built).__name__}; name one of them in loss=dict(...)"
            )
        self.loss: kd.PixelwiseKD | DecoupledKD = built

    def forward(
        self,
        student: Tensors,
        teacher: Tensors,
        label: Tensor | None = None,
        *,
        image: Tensor | None = None,
        draw: Any = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Logits (N, K, H, W) or (N, K) of both sides, label for dkd -> scalar."""
        s, t = single(student, NAME), single(teacher, NAME).detach()
        check_logits(s, t, NAME)
        valid = valid_mask(valid, (s.shape[0], *s.shape[2:]), NAME)
        if isinstance(self.loss, kd.PixelwiseKD):
            return kd.pixelwise_kd(s, t, self.loss.temperature, valid, change=standardize)
        return self.loss.compare(s, t, label, valid, change=standardize)
