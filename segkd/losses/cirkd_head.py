"""The head of CIRKD's memory terms, which brings the student's feature to the teacher's width."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class ProjectionHead(nn.Sequential):
    """1 x 1 convolution, BatchNorm, ReLU, 1 x 1 convolution, without biases, from the student's to the teacher's width.

    In training, a single position has no variance, and none no mean: BatchNorm then uses its running statistics.
    """

    def __init__(self, student: int, teacher: int) -> None:
        first, last = (nn.Conv2d(c, teacher, kernel_size=1, bias=False) for c in (student, teacher))
        super().__init__(first, nn.BatchNorm2d(teacher), nn.ReLU(), last)

    def forward(self, feature: Tensor) -> Tensor:
        widen, norm, relu, last = self
        x = widen(feature)
        if isinstance(norm, nn.BatchNorm2d) and norm.training and x.numel() <= x.shape[1]:
            x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            x = norm(x)
        out: Tensor = last(relu(x))
        return out

    def rows(self, feature: Tensor, counted: Tensor, all_in_norm: bool = False) -> Tensor:
        """Feature (N, C, H, W), counted (N, H, W) -> (M, D), the counted positions' in their order.

        BatchNorm has its statistics from these alone, unless it sees all positions.
        """
        made: Tensor
        if all_in_norm:
            made = self(feature).permute(0, 2, 3, 1)[counted]
            return made
        rows = feature.permute(0, 2, 3, 1)[counted]
        # no convolution takes a map without positions, but every one a batch without samples
        made = self(rows.T[None, :, :, None])[0, :, :, 0].T if len(rows) else self(rows[:, :, None, None]).flatten(1)
        return made
