"""Augmentation-free dense contrastive distillation (Fan et al., NeurIPS 2023, arXiv 2312.04168): masked feature
mimicking and omni-contrasting, over space and channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.arguments import integer, number, positive
from segkd.errors import UserError
from segkd.losses.base import (
    COMPARED,
    LOSSES,
    DistillationLoss,
    Tensors,
    cast_to_part,
    mean_over,
    no_autocast,
    one_map_a_side,
    same_shape,
    single,
    upcast,
    valid_mask,
)
from segkd.losses.blocks import SAMPLES, blockwise_sum
from segkd.losses.mgd import generation_block
from segkd.losses.sampling import uniform

NAME = "DenseContrastive"


class Cut(NamedTuple):
    """How maps fall into the vectors that are compared: cells of a max pooling, patches of cells, groups of channels.

    groups: M, of neighbouring channels; pool_size: side of a cell (1: none); patch_size: side of a patch, in cells.
    """

    groups: int = 16
    pool_size: int = 4
    patch_size: int = 4

    def check(self) -> Cut:
        """The same as ints; a UserError unless they are whole, from 2 for the groups and from 1 for the sides."""
        return Cut(
            *(
                integer(value, name, NAME, least)
                for name, value, least in zip(self._fields, self, (2, 1, 1), strict=True)
            )
        )


def omni_contrast(
    student: Tensor, teacher: Tensor, temperature: float = 0.07, cut: Cut | None = None, valid: Tensor | None = None
) -> Tensor:
    """``mean over cells x and channel groups m of -log (e(x, m, x, m) / (e(x, m, x, m) + sum e(x, m, y, k)))``.

    ``e(x, m, y, k) = exp(-||s[x, m] - t[y, k]||_1 / temperature)``; y runs over the cells of x's patch (x as well), k
    over the other groups. So the student's vector shall be nearer to the teacher's at its own place than to any other
    group's in the patch; the same group at other cells is left out, neighbours being alike.

    Args:
        student, teacher: features (N, C, H, W), one shape; the teacher is detached.
        temperature: tau.
        cut: see ``Cut``; C is a multiple of its groups. Cells and patches at the right and lower border may be smaller.
        valid: (N, H, W), true where a pixel takes part; None takes all. A cell is the maximum of its valid pixels. With
            none at all the value is 0.

    Returns:
        A scalar of at least float32, not below 0. It has no closed minimum: at s = t it is small where the teacher's
        groups differ by many temperatures.

    Raises:
        UserError: not four dimensions, unequal shapes, channels that do not fall into the groups, a mask of another
            shape, or a temperature that is not above 0.
    """
    groups, pool, patch = (cut or Cut()).check()
    positive(temperature, "temperature", NAME)
    check_features(student, teacher, groups)
    n, _, h, w = student.shape
    mask = valid_mask(valid, (n, h, w), NAME)
    with no_autocast(student):
        (s, counted), (t, _) = (_cells(x, (min(pool, h), min(pool, w)), mask) for x in (student, teacher.detach()))
        sides = min(patch, s.shape[2]), min(patch, s.shape[3])
        s, t = (_vectors(x, sides, groups) for x in (s, t))
        number = torch.arange(s.shape[1], device=s.device)
        left_out = ((number[:, None] - number) % groups == 0) & (number[:, None] != number)
        inside = _vectors(counted[:, None].to(s.dtype).expand(-1, groups, -1, -1), sides, groups)[..., 0] > 0
        # some cells are masked, or fill up patches
        partly = mask is not None or inside.numel() != counted.numel() * groups

        def of_patches(s: Tensor, t: Tensor, inside: Tensor) -> Tensor:
            logits = torch.cdist(s / temperature, t / temperature, p=1).neg()
            out = left_out | ~inside[:, None] if partly else left_out
            # a huge finite number, not -inf: exactly 0 in the sum, and no NaN where all of a row is left out
            sums = logits.masked_fill(out, torch.finfo(logits.dtype).min / 2).logsumexp(2)
            return (sums - logits.diagonal(dim1=1, dim2=2)).masked_fill(~inside, 0).sum()

        total = blockwise_sum(of_patches, s, t, inside, along=SAMPLES, numbers=s.shape[1] ** 2)
        return total / inside.sum() if mask is None else mean_over(total, inside.sum())


def check_features(student: Tensor, teacher: Tensor, groups: int) -> None:
    """A UserError unless both are (N, C, H, W) of one shape and the channels fall into the groups."""
    if student.dim() != 4:
        raise UserError(f"{NAME} takes features (N, C, H, W), got a student of shape {tuple(student.shape)}")
    same_shape(student, teacher, NAME)
    if student.shape[1] % groups:
        raise UserError(f"{NAME}: {student.shape[1]} channels do not fall into {groups} equal groups; set groups=")


def _cells(x: Tensor, sides: tuple[int, int], mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) -> max-pooled cells (N, C, h, w), 0 where no pixel is valid; and which have one (N, h, w)."""
    x = upcast(x)
    if mask is None:
        mask = x.new_ones(x.shape[0], *x.shape[2:], dtype=torch.bool)
    else:
        x = x.masked_fill(~mask[:, None], torch.finfo(x.dtype).min)
    if sides != (1, 1):
        x = F.max_pool2d(x, sides, ceil_mode=True)
        mask = F.max_pool2d(mask[:, None].float(), sides, ceil_mode=True)[:, 0] > 0
    return x.masked_fill(~mask[:, None], 0), mask


def _vectors(x: Tensor, sides: tuple[int, int], groups: int) -> Tensor:
    """(N, C, h, w) -> vectors (patches, cells of a patch * groups, C / groups); zeros fill up patches at the border."""
    n, c, h, w = x.shape
    x = F.pad(x, (0, -w % sides[1], 0, -h % sides[0]))
    rows, columns = x.shape[2] // sides[0], x.shape[3] // sides[1]
    x = x.reshape(n, groups, c // groups, rows, sides[0], columns, sides[1]).permute(0, 3, 5, 4, 6, 1, 2)
    return x.reshape(n * rows * columns, -1, c // groups)


@LOSSES.register("af_dcd")
class DenseContrastive(DistillationLoss):
    """``lambda_fd * mean of (G - teacher)^2 + lambda_ocd * omni_contrast(G, teacher)``, G made of the masked student.

    G is MGD's generation block over the student's feature with the share ``mask_ratio`` of its positions hidden; it
    trains with the student and is not exported. Tap: the last stage of the backbone, one a side, with
    ``connector=dict(type=Conv1x1, bias=True)``; H and W of 1/8. The block costs 18 * C^2 multiplications per position.

    Published for Cityscapes (DeepLabV3-R18 from R101): tau 0.07, M = 16, cells of 4 x 4 pixels (ADE20K and VOC too),
    patches of 4 x 4 cells, mask ratio 0.75; weights 2e-6 on a sum over the feature and 0.005, beside pixel-wise KD of
    weight 1 at T = 1. The defaults are these, converted (``published_scale``; 2e-6 at 2048 x 64 x 128): use weight 1.
    For CamVid they do not pool, with weights 8e-6 (at 2048 x 45 x 45: 33.2 here) and 0.01 (0.16 here).

    What differs from the published code: it fails for equal channels of both networks, and where cells and patches do
    not divide the map, and crops CamVid's to 44 x 44; here borders have smaller cells and patches. Its gradient is
    clipped at norm 15, apart from the student's: the optimiser's matter. The projector of two branches is not built.

    The value is not 0 for student = teacher. A batch repeated twice gives the same value where samples bear the same
    numbers; a map tiled 2 x 2 does not, for the block's borders and the draw (``omni_contrast`` alone does, where
    patches divide the map).

    >>> import torch
    >>> loss = DenseContrastive(groups=4)
    >>> loss.prepare([(2, 8, 16, 16)], [(2, 8, 16, 16)], [])
    >>> feature = torch.randn(2, 8, 16, 16)
    >>> bool(loss(feature, feature, draw=loss.sample((2, 8, 16, 16), seed=0)) > 0)
    True
    """

    published_scale = {
        "contrast": "groups",  # sum of cross entropies / (N * cells of a map): 0.005 becomes 0.005 * 16 = 0.08
        "masked": "C * H * W",  # sum of squared differences / N: 2e-6 becomes 2e-6 * C * H * W
    }

    usual_rms = COMPARED

    def __init__(
        self,
        temperature: float = 0.07,
        groups: int = 16,
        pool_size: int = 4,
        patch_size: int = 4,
        mask_ratio: float = 0.75,
        lambda_fd: float = 33.5,
        lambda_ocd: float = 0.08,
    ) -> None:
        super().__init__()
        self.temperature = positive(temperature, "temperature", NAME)
        self.cut = Cut(groups, pool_size, patch_size).check()
        self.mask_ratio = number(mask_ratio, "mask_ratio", NAME, least=0, below=1)
        self.lambda_fd = number(lambda_fd, "lambda_fd", NAME, least=0)
        self.lambda_ocd = number(lambda_ocd, "lambda_ocd", NAME, least=0)
        self.generation: nn.Sequential | None = None

    def prepare(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        teacher_modules: Sequence[nn.Module],
    ) -> None:
        """Make the generation block, of the teacher's channels, without moving torch's random state."""
        one_map_a_side(student_shapes, teacher_shapes, NAME)
        channels = teacher_shapes[0][1]
        if channels % self.cut.groups:
            raise UserError(f"{NAME}: {channels} channels do not fall into {self.cut.groups} equal groups; set groups=")
        self.generation = generation_block(channels)

    def sample(self, *shapes: tuple[int, ...], seed: int, index: Sequence[int] | None = None) -> Tensor:
        """(N, 1, H, W), uniform in [0, 1); a position above 1 - mask_ratio is hidden."""
        n, _, h, w = shapes[0]
        return uniform((1, h, w), n, seed, index)

    def forward(
        self,
        student: Tensors,
        teacher: Tensors,
        label: Tensor | None = None,
        *,
        image: Tensor | None = None,
        draw: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Features (N, C, H, W) of both sides and ``sample``'s draw -> scalar; ``label`` and ``image`` are not used."""
        s, t = single(student, NAME), single(teacher, NAME).detach()
        check_features(s, t, self.cut.groups)
        if self.generation is None:
            raise UserError(f"{NAME} has no weights yet; call prepare(...) before its first use (a bind does)")
        n, c, h, w = s.shape
        if draw is None or tuple(draw.shape) != (n, 1, h, w):
            raise UserError(f"{NAME} needs a draw of shape {(n, 1, h, w)}: loss.sample(...) makes it")
        hidden = draw.to(s.device) > 1 - self.mask_ratio
        valid = valid_mask(valid, (n, h, w), NAME)
        with no_autocast(s):
            s, t = (cast_to_part(self.generation, x) for x in (s, t))
            made = self.generation(s.masked_fill(hidden if valid is None else hidden | ~valid[:, None], 0))
            error = (made - t).square()
            if valid is None:
                masked = error.mean()
            else:
                masked = mean_over(error.masked_fill(~valid[:, None], 0).sum() / c, valid.sum())
            contrast = omni_contrast(made, t, self.temperature, self.cut, valid)
            total: Tensor = self.lambda_fd * masked + self.lambda_ocd * contrast
            return total

    def extra_repr(self) -> str:
        weights = f"mask_ratio={self.mask_ratio:g}, lambda_fd={self.lambda_fd:g}, lambda_ocd={self.lambda_ocd:g}"
        return f"temperature={self.temperature:g}, {self.cut}, {weights}"
