"""Connectors make student features comparable with the teacher's. They train with the student and are not exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.arguments import flag, integer
from segkd.errors import UserError
from segkd.registry import Registry


class Connector(nn.Module):
    """Base of all connectors: ``connector(feature, like=teacher_feature) -> feature`` with the teacher's channels."""

    def prepare(self, student_shape: Sequence[int], teacher_shape: Sequence[int]) -> None:
        """Make all parameters, from shapes (N, C, H, W) probed with one batch, before optimisers exist."""


CONNECTORS: Registry[Connector] = Registry("connector", "segkd.connectors")


@CONNECTORS.register("conv1x1")
class Conv1x1(Connector):
    """1 x 1 convolution from the student's channels to the teacher's, the usual regressor of FitNet, CWD and MGD.

    The channel counts are filled in by ``prepare``; given ones are checked there. The convolution starts from torch's
    default (uniform in +-1 / sqrt(in_channels)), drawn without moving torch's global random state, so that a student
    trained with a connector meets the same random numbers as one trained without.

    Args:
        in_channels, out_channels: the student's and the teacher's count; None = as probed.
        bias: add a bias.
        norm: follow with BatchNorm2d. In training, a batch with a single position has no variance: BatchNorm then uses
            its running statistics.
    """

    def __init__(
        self, in_channels: int | None = None, out_channels: int | None = None, bias: bool = False, norm: bool = False
    ) -> None:
        super().__init__()
        given = (("in_channels", in_channels), ("out_channels", out_channels))
        self.in_channels, self.out_channels = (None if n is None else integer(n, name, "Conv1x1") for name, n in given)
        self.bias, self.norm = flag(bias, "bias", "Conv1x1"), flag(norm, "norm", "Conv1x1")
        self.layers: nn.Sequential | None = None
        if self.in_channels is not None and self.out_channels is not None:
            self._make(self.in_channels, self.out_channels)

    def prepare(self, student_shape: Sequence[int], teacher_shape: Sequence[int]) -> None:
        """Make the convolution for features of these shapes; a second call with the same channels changes nothing."""
        probed = (_channels(student_shape, "student"), _channels(teacher_shape, "teacher"))
        for side, given, found in zip(("in", "out"), (self.in_channels, self.out_channels), probed, strict=True):
            if given is not None and given != found:
                raise UserError(
                    f"Conv1x1 has {side}_channels={given}, but the tapped feature has {found}; leave it out"
                )
        if self.layers is None:
            self._make(*probed)

    def forward(self, feature: Tensor, like: Tensor | None = None) -> Tensor:
        """(N, C_student, H, W) -> (N, C_teacher, H, W); ``like`` is not needed."""
        if self.layers is None:
            raise UserError(
                "Conv1x1 has no weights yet; call prepare(student_shape, teacher_shape) before its first use"
            )
        if feature.dim() != 4 or feature.shape[1] != self.in_channels:
            raise UserError(f"Conv1x1 was made for (N, {self.in_channels}, H, W), got {tuple(feature.shape)}")
        out: Tensor = self.layers[0](feature)
        return self._normalise(out) if self.norm else out

    def _normalise(self, x: Tensor) -> Tensor:
        norm = cast(nn.Sequential, self.layers)[1]
        if isinstance(norm, nn.BatchNorm2d) and norm.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        out: Tensor = norm(x)
        return out

    def extra_repr(self) -> str:
        return f"in_channels={self.in_channels}, out_channels={self.out_channels}"

    def _make(self, in_channels: int, out_channels: int) -> None:
        self.in_channels, self.out_channels = in_channels, out_channels
        with torch.random.fork_rng(devices=[]):
            conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=self.bias)
        self.layers = nn.Sequential(conv, nn.BatchNorm2d(out_channels)) if self.norm else nn.Sequential(conv)


def _channels(shape: Sequence[int], side: str) -> int:
    if len(shape) != 4:
        raise UserError(f"Conv1x1 takes maps (N, C, H, W), but the {side}'s tapped feature is {tuple(shape)}")
    return shape[1]
