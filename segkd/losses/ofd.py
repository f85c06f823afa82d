"""Overhaul of feature distillation (Heo et al., ICCV 2019, arXiv 1904.01866): the paper's distillation loss, of margin
ReLU (the teacher's transform), partial L2 distance and the position before the ReLU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from segkd.errors import UserError, nearest
from segkd.losses.base import (
    COMPARED,
    LOSSES,
    DistillationLoss,
    Tensors,
    mean_over,
    no_autocast,
    same_shape,
    single,
    upcast,
    valid_mask,
)

NAME = "Overhaul"
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm
MARGINS = ("auto", "bn", "estimate")
RARE = 1e-3  # a channel that is negative less often takes the margin -3 standard deviations, as published


def overhaul(student: Tensor, teacher: Tensor, margin: Tensor, valid: Tensor | None = None) -> Tensor:
    """``mean over samples, channels and positions of d(student, max(teacher, margin))``, the margin per channel.

    ``d(s, t) = (s - t)^2`` where t > 0 or s > t, else 0: where the teacher is silent the student need only be at or
    below the margin (equations 4 and 5, there a sum).

    Args:
        student, teacher: responses before the ReLU (N, C, H, W), one shape; the teacher is detached.
        margin: (C,), at most 0.
        valid: (N, H, W), true where a position counts; None counts all. With no valid position the value is 0.

    Returns:
        A scalar of at least float32. It is 0 for student = teacher.

    Raises:
        UserError: not four dimensions, unequal shapes, a margin or mask of another shape.
    """
    if student.dim() != 4:
        raise UserError(f"{NAME} takes responses (N, C, H, W), got a student of shape {tuple(student.shape)}")
    same_shape(student, teacher, NAME)
    n, c, h, w = student.shape
    if tuple(margin.shape) != (c,):
        raise UserError(f"{NAME} takes one margin per channel, ({c},), got {tuple(margin.shape)}")
    valid = valid_mask(valid, (n, h, w), NAME)
    with no_autocast(student):
        target = torch.maximum(upcast(teacher.detach()), upcast(margin.detach())[:, None, None])
        difference = upcast(student) - target
        left_out = (difference <= 0) & (target <= 0)
        if valid is not None:
            left_out |= ~valid[:, None]
        # filled before the square: exactly 0 in value and gradient, even for inf or NaN outside the mask
        total = difference.masked_fill_(left_out, 0).square().sum()
        return total / student.numel() if valid is None else mean_over(total / c, valid.sum())


def margin_of(norm: BatchNorm) -> Tensor:
    """(C,) float32: the mean negative output of a BatchNorm per channel, for outputs normal around its bias.

    ``E[x | x < 0] = bias - s * phi(bias / s) / Phi(-bias / s)`` with ``s = |weight|``; -3 s for a channel that is
    negative in less than one case of a thousand. A weight of 0 gives min(bias, 0), where the published code divides by
    0. Computed in float64 and rounded to float32, as published (equation 10, appendix A).
    """
    if norm.affine:
        spread, centre = norm.weight.detach().double().abs(), norm.bias.detach().double()
    else:
        spread = torch.ones(norm.num_features, dtype=torch.float64)
        centre = torch.zeros_like(spread)
    ratio = centre / spread.clamp_min(torch.finfo(torch.float64).tiny)
    negative = torch.special.erfc(ratio / math.sqrt(2)) / 2
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    mean = centre - spread * density / negative.clamp_min(RARE)
    return torch.where(negative > RARE, mean, -3 * spread).float()


def batch_norm_of(module: nn.Module) -> BatchNorm | None:
    """The BatchNorm whose output a module gives: itself, or the last layer of an ``nn.Sequential``; else None.

    Subclasses are not taken: some activate as well (timm's BatchNormAct2d).
    """
    if isinstance(module, BatchNorm) and type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm):
        return module
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        layers = [layer for layer in module if type(layer) is not nn.Identity]
        return batch_norm_of(layers[-1]) if layers else None
    return None


def negative_responses(teacher: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sum and number (C,) of the negative numbers in (N, C, H, W), at valid positions, of all processes together."""
    t = upcast(teacher.detach())
    if valid is not None:
        t = t.masked_fill(~valid[:, None], 0)
    total, count = t.clamp_max(0).sum((0, 2, 3)), (t < 0).sum((0, 2, 3))
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
        distributed.all_reduce(count)
    return total, count


@LOSSES.register("ofd")
class Overhaul(DistillationLoss):
    """``overhaul`` with the teacher's margins (margin ReLU and partial L2 distance of the paper).

    Taps: one response a side BEFORE its ReLU, a bind each. For segmentation (DeepLabV3+) the authors take six: the ends
    of the four backbone stages, ASPP and decoder, with dividers 8, 4, 2, 1, 1, 16; a bind's weight is
    ``published_scale["segmentation"] / divider``. Connector ``dict(type=Conv1x1, norm=True)`` on the
    student's side, with ``lr_factor=10``. The published sums grow with crop and channels, this is their mean.

    Margins are the teacher's mean negative responses per channel, a buffer. Where the tapped layer is a BatchNorm, or a
    sequence that ends in one, they follow from its weight and bias (tap its output). Where there is none, as at the
    ReLU behind a residual sum (``layer4.2.relu@input#-1``), for the mean of several teachers or a scaled one, they are
    the mean over all batches so far, this one included, at valid positions; in eval, of what training has seen (of this
    batch, if nothing). The published code takes a residual block's last BatchNorm for it, whose statistics are not the
    sum's. A teacher tapped behind its ReLU has no negative response: its margins are 0. A batch repeated twice and a
    map tiled 2 x 2 give the same value.

    Args:
        margin: "auto" as described, "bn" (an error without a BatchNorm) or "estimate" (from responses in any case).

    >>> import torch
    >>> loss = Overhaul()
    >>> loss.prepare([(2, 8, 6, 10)], [(2, 8, 6, 10)], [torch.nn.BatchNorm2d(8)])
    >>> [round(margin, 3) for margin in loss.margin.tolist()[:2]]  # the mean of a Gaussian's negative half
    [-0.798, -0.798]
    """

    # Of one tap's N x C x H x W, before its divider.
    published_scale = {
        "author": "N * C * H * W",  # sum (the function alone)
        "mdistiller": "C * H * W",  # sum / N
        "segmentation": "C * H * W / 100000",  # sum / N * 1e-5, the whole method: 2.66 at the decoder of DeepLabV3+,
        # 256 x 129 x 129 of a crop of 513, with its divider 16
        "imagenet": "C * H * W / 10000",  # sum / N / 10000, the whole method
        "cifar": "C * H * W / 1000",  # sum / N / 1000, the whole method
    }

    usual_rms = COMPARED

    margin: Tensor
    seen: Tensor | None

    def __init__(self, margin: str = "auto") -> None:
        super().__init__()
        if margin not in MARGINS:
            raise UserError(f"{NAME}: unknown margin {margin!r}; {nearest(margin, MARGINS)}")
        self.source = margin
        self._new: tuple[Tensor, Tensor] | None = None
        self._prepared = False

    def prepare(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        teacher_modules: Sequence[nn.Module],
    ) -> None:
        """The margins of the teacher's BatchNorm, or room for the estimated ones."""
        if len(teacher_shapes) != 1:
            raise UserError(f"{NAME} takes one tap a side, got {len(teacher_shapes)}")
        channels = teacher_shapes[0][1]
        tapped = teacher_modules[0] if teacher_modules else None
        norm = None if tapped is None or self.source == "estimate" else batch_norm_of(tapped)
        if norm is not None and norm.num_features != channels:
            norm = None
        if norm is None and self.source == "bn":
            found = "a mean of several teachers', or scaled," if tapped is None else f"a {type(tapped).__name__}"
            raise UserError(
                f"{NAME}: the teacher's tap is {found}, not a BatchNorm of {channels} channels; tap one, or leave "
                'margin="bn" out: margins are then estimated from the responses'
            )
        self.register_buffer("margin", torch.zeros(channels) if norm is None else margin_of(norm))
        self.register_buffer("seen", torch.zeros(channels, dtype=torch.int64) if norm is None else None)
        self._prepared = True

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
        """Responses (N, C, H, W) of both sides -> scalar; ``label``, ``image`` and ``draw`` are not used."""
        if not self._prepared:
            raise UserError(f"{NAME} has no margins yet; call prepare(...) before its first use (a bind does)")
        s, t = single(student, NAME), single(teacher, NAME).detach()
        if self.seen is None:
            return overhaul(s, t, self.margin, valid)
        if t.dim() != 4 or t.shape[1] != len(self.margin):
            raise UserError(f"{NAME} was made for responses (N, {len(self.margin)}, H, W), got {tuple(t.shape)}")
        with no_autocast(t):
            margin = self._estimate(t, valid_mask(valid, (t.shape[0], *t.shape[2:]), NAME))
        return overhaul(s, t, margin, valid)

    def after_step(self) -> None:
        """Take what this step's batches added into the estimate."""
        if self._new is not None and self.seen is not None:
            self.margin.copy_(merged(self.margin, self.seen, *self._new))
            self.seen += self._new[1]
        self._new = None

    def extra_repr(self) -> str:
        return f"margin={self.source!r}"

    def _estimate(self, teacher: Tensor, valid: Tensor | None) -> Tensor:
        assert self.seen is not None
        if not self.training and bool(self.seen.any()):
            return self.margin
        batch = negative_responses(teacher, valid)
        if self.training:
            self._new = batch if self._new is None else (self._new[0] + batch[0], self._new[1] + batch[1])
        return merged(self.margin, self.seen, *batch)


def merged(mean: Tensor, seen: Tensor, total: Tensor, count: Tensor) -> Tensor:
    """The mean (C,) of ``seen`` numbers, with ``count`` more that sum up to ``total``."""
    mean = mean.to(total.dtype)
    share = count.to(total.dtype) / (seen + count).clamp_min(1)
    return mean + (total / count.clamp_min(1) - mean) * share
