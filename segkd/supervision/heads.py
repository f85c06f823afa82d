"""Heads that turn a tapped feature into logits for a term of their own; trained beside the network, never exported."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from segkd.arguments import flag, integer, number
from segkd.errors import UserError, nearest

FANS = ("fan_in", "fan_out")


class AuxHead(nn.Module):
    """Convolution to fewer channels, BN, ReLU, dropout, 1x1 convolution to K logits.

    Args:
        in_channels: channels of the tap; filled in by ``Supervision`` from what the tap gives.
        num_classes: K; filled in too.
        middle: channels between the two convolutions; None for half of ``in_channels``; 0 for a single 1x1 convolution
            and nothing else (``kernel``, ``dropout``, ``norm_first`` and ``bias`` then mean nothing).
        kernel: odd kernel size of the first convolution.
        dropout: probability before the classifier; None for 0.1, or for 0 with ``norm_first``, as published.
        norm_first: BN and ReLU before the first convolution too (DDRNet, PIDNet).
        bias: of the first convolution.
        classifier_bias: of the 1x1 convolution (STDC has none).
        init: weights from the normal distribution of He et al. (2015) by "fan_in" or "fan_out"; None for torch's own,
            from which biases always are.
        slope: that ``init`` assumes of a leaky ReLU: 0 for variance 2 / fan, 1 for 1 / fan.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        middle: int | None = None,
        kernel: int = 3,
        dropout: float | None = None,
        norm_first: bool = False,
        bias: bool = False,
        classifier_bias: bool = True,
        init: Literal["fan_in", "fan_out"] | None = None,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        if init not in (None, *FANS):
            raise UserError(f"{type(self).__name__} has no init {init!r}; {nearest(str(init), FANS)}")
        own = type(self).__name__
        kernel = integer(kernel, "kernel", own)
        if kernel % 2 == 0:
            raise UserError(f"{own}: kernel must be odd, got {kernel}")
        number(slope, "slope", own, least=0)
        for value, argument in ((norm_first, "norm_first"), (bias, "bias"), (classifier_bias, "classifier_bias")):
            flag(value, argument, own)
        if dropout is not None:
            number(dropout, "dropout", own, least=0, below=1)
        width = max(in_channels // 2, 1) if middle is None else integer(middle, "middle", own, least=0)
        self.middle = width
        if width:
            self.norm_in = nn.BatchNorm2d(in_channels) if norm_first else None
            self.conv = nn.Conv2d(in_channels, width, kernel, padding=kernel // 2, bias=bias)
            self.norm = nn.BatchNorm2d(width)
            self.dropout = nn.Dropout((0.0 if norm_first else 0.1) if dropout is None else dropout)
        self.classifier = nn.Conv2d(width or in_channels, num_classes, 1, bias=classifier_bias)
        if init is not None:
            for conv in (module for module in self.modules() if isinstance(module, nn.Conv2d)):
                nn.init.kaiming_normal_(conv.weight, a=slope, mode=init)

    def forward(self, feature: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, K, h, w)."""
        if self.middle:
            if self.norm_in is not None:
                feature = F.relu(self.norm_in(feature))
            feature = self.dropout(F.relu(self.norm(self.conv(feature))))
        logits: Tensor = self.classifier(feature)
        return logits


class BoundaryHead(AuxHead):
    """An ``AuxHead`` with a single logit, that of "here runs a boundary"; for ``BoundaryBCE`` and ``DetailLoss``.

    Args:
        in_channels: channels of the tap; filled in by ``Supervision``.
        num_classes: takes no part; every head is given it.
        middle, kernel, dropout, norm_first, bias, classifier_bias, init, slope: see ``AuxHead``; no dropout by default.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        middle: int | None = None,
        kernel: int = 3,
        dropout: float = 0.0,
        norm_first: bool = False,
        bias: bool = False,
        classifier_bias: bool = True,
        init: Literal["fan_in", "fan_out"] | None = None,
        slope: float = 0.0,
    ) -> None:
        super().__init__(in_channels, 1, middle, kernel, dropout, norm_first, bias, classifier_bias, init, slope)
