"""Masked generative distillation (Yang et al., ECCV 2022, arXiv 2205.01529)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.arguments import number
from segkd.errors import UserError
from segkd.losses.base import (
    COMPARED,
    LOSSES,
    DistillationLoss,
    Tensors,
    mean_over,
    no_autocast,
    one_map_a_side,
    same_shape,
    single,
    upcast,
    valid_mask,
)
from segkd.losses.sampling import uniform

NAME = "MaskedGenerative"


def masked_generative(
    student: Tensor, teacher: Tensor, generation: nn.Module, hidden: Tensor, valid: Tensor | None = None
) -> Tensor:
    """``mean over samples, channels and positions of (generation(student where not hidden, else 0) - teacher)^2``.

    Equation 5 of the paper, there a sum.

    Args:
        student, teacher: features (N, C, H, W), one shape; the teacher is detached.
        generation: makes (N, C, H, W) of the masked student's feature; computed in the precision of its parameters.
        hidden: (N, 1, H, W), true where the student's feature is replaced by 0, in all channels.
        valid: (N, H, W), true where a position counts; others are hidden as well. With none the value is 0.

    Returns:
        A scalar of at least float32.

    Raises:
        UserError: not four dimensions, unequal shapes, or masks of another shape.
    """
    if student.dim() != 4:
        raise UserError(f"{NAME} takes features (N, C, H, W), got a student of shape {tuple(student.shape)}")
    same_shape(student, teacher, NAME)
    n, c, h, w = student.shape
    if tuple(hidden.shape) != (n, 1, h, w):
        raise UserError(f"{NAME}: the draw is {tuple(hidden.shape)}, the student's positions are {(n, 1, h, w)}")
    valid = valid_mask(valid, (n, h, w), NAME)
    with no_autocast(student):
        s, t = upcast(student), upcast(teacher.detach())
        parameter = next(generation.parameters(), None)
        s = s if parameter is None else s.to(parameter.dtype)
        if valid is None:
            made = generation(s.masked_fill(hidden, 0))
            return F.mse_loss(made.to(t.dtype), t)
        out = ~valid[:, None]
        made = generation(s.masked_fill(hidden | out, 0))
        total: Tensor = (made - t).masked_fill(out, 0).square().sum() / c
        return mean_over(total, valid.sum())


def generation_block(channels: int) -> nn.Sequential:
    """3 x 3 convolution, ReLU, 3 x 3 convolution, keeping the channels; started without moving torch's random state."""
    with torch.random.fork_rng(devices=[]):
        first, last = (nn.Conv2d(channels, channels, kernel_size=3, padding=1) for _ in range(2))
    return nn.Sequential(first, nn.ReLU(), last)


@LOSSES.register("mgd")
class MaskedGenerative(DistillationLoss):
    """``masked_generative`` with its generation block and mask; one tap a side, with ``connector=dict(type=Conv1x1)``.

    The student's feature, brought to the teacher's channels by the connector (the authors' has ``bias=True``), is
    hidden at random positions, and the block has to make the teacher's whole feature from the rest (section 3 of the
    paper). The block trains with the student and is not exported. It has no normalisation: at a rate that suits a
    student with BatchNorm its ReLUs may die, which the log then says; set the bind's ``lr_factor=0.1``. It costs
    18 * C^2 multiplications per position, 75 million parameters at C = 2048: tap where the teacher has at most about
    512 channels.

    Published for segmentation: ``lambda_mgd`` 0.75 (the share of positions that are HIDDEN), alpha 2e-5 (see
    ``published_scale``), tap = the last stage of the backbone, together with CWD on the logits (T = 4, weight 3): the
    printed gain is that of both. Its code draws all masks from the global generator; here the mask of a sample depends
    on its number, the run's seed and the step.

    The value is not 0 for student = teacher, since the block still has to learn. A batch repeated twice gives the same
    value where samples bear the same numbers; a map tiled 2 x 2 does not, for the draw's and the convolution's borders,
    but in expectation it depends on the borders alone.

    >>> import torch
    >>> loss = MaskedGenerative()
    >>> loss.prepare([(2, 8, 6, 10)], [(2, 8, 6, 10)], [])
    >>> feature = torch.randn(2, 8, 6, 10)
    >>> bool(loss(feature, feature, draw=loss.sample((2, 8, 6, 10), seed=0)) > 0)
    True
    """

    published_scale = {"mgd": "C * H * W"}  # sum / N, times alpha: 2e-5 at 2048 x 64 x 128 becomes 335.5, at every size

    usual_rms = COMPARED

    def __init__(self, lambda_mgd: float = 0.75) -> None:
        super().__init__()
        self.lambda_mgd = number(lambda_mgd, "lambda_mgd, the share that is hidden,", NAME, least=0, below=1)
        self.generation: nn.Sequential | None = None

    def prepare(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        teacher_modules: Sequence[nn.Module],
    ) -> None:
        """Make the generation block, of the teacher's channels."""
        one_map_a_side(student_shapes, teacher_shapes, NAME)
        self.generation = generation_block(teacher_shapes[0][1])

    def sample(self, *shapes: tuple[int, ...], seed: int, index: Sequence[int] | None = None) -> Tensor:
        """(N, 1, H, W), uniform in [0, 1); a position above 1 - lambda_mgd is hidden."""
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
        s, t = single(student, NAME), single(teacher, NAME)
        if self.generation is None:
            raise UserError(f"{NAME} has no weights yet; call prepare(...) before its first use (a bind does)")
        if draw is None:
            raise UserError(f"{NAME} needs a draw: loss.sample(...) makes it")
        return masked_generative(s, t, self.generation, draw.to(s.device) > 1 - self.lambda_mgd, valid)

    def extra_repr(self) -> str:
        return f"lambda_mgd={self.lambda_mgd:g}"
