"""Holistic distillation by a conditional critic (SKD: Liu et al., CVPR 2019 and TPAMI 2020, arXiv 1903.04197,
section 3.1).

Different from the published code, with reason:

- the image is seen and logits pass a softmax, as in the paper and SKD's first version. Its later code, IFVD and
  CIRKD give raw logits alone to a BatchNorm: unbounded, unconditional, and the penalty of one sample depends on
  the others. ``conditional=False`` leaves the image out;
- the penalty is taken between the two segmentations, its gradient by the segmentation (published: between raw
  logits; in the first version, by the image too);
- its norm is that of the mean of a map's scores, the very D of the terms (published: of their sum, which makes the
  terms weaker the larger the map), by a square root with a finite gradient at 0 (published: NaN);
- the power iteration of the spectral norm takes place once after each optimiser step (``after_step``), not in each
  pass: all passes of a step see one critic, on every process the same. It starts converged, not at random;
- the image is shrunk by area average (published: bilinear with aligned corners, which skips pixels);
- the student's term gives the critic no gradient (published: cleared before the critic's step).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.arguments import flag, integer, positive
from segkd.errors import UserError, nearest
from segkd.losses.base import (
    LOSSES,
    DistillationLoss,
    Tensors,
    no_autocast,
    same_shape,
    single,
    upcast,
)
from segkd.losses.sampling import uniform
from segkd.losses.skd_critic import Critic

NAME = "Holistic"
KINDS = ("wgan-gp", "hinge")
EPS = 1e-12  # under the square root of the penalty: the gradient's norm may be 0


def generator_term(scores: Tensor) -> Tensor:
    """``-mean D(student)``: what the student lowers, for scores of any shape."""
    return -scores.mean()


def critic_term(student: Tensor, teacher: Tensor, kind: str = "wgan-gp") -> Tensor:
    """What the critic lowers, without the penalty, for scores of any shape.

    "wgan-gp": ``mean D(student) - mean D(teacher)``;
    "hinge": ``mean max(0, 1 + D(student)) + mean max(0, 1 - D(teacher))``.
    """
    if kind == "hinge":
        return F.relu(1 + student).mean() + F.relu(1 - teacher).mean()
    return student.mean() - teacher.mean()


def gradient_penalty(score: Callable[[Tensor], Tensor], student: Tensor, teacher: Tensor, alpha: Tensor) -> Tensor:
    """``mean over samples of (||d score(x) / dx||_2 - 1)^2`` at ``x = alpha * teacher + (1 - alpha) * student``.

    Args:
        score: (N, ...) -> (N,), each from its own sample alone.
        student, teacher: (N, ...), one shape; both are detached.
        alpha: N numbers from 0 to 1.

    Returns:
        A scalar that can be differentiated by what ``score`` depends on; finite with its gradient where the norm is 0.
    """
    alpha = alpha.to(student).reshape(-1, *[1] * (student.dim() - 1))
    with torch.enable_grad():
        x = torch.lerp(student.detach(), teacher.detach(), alpha).requires_grad_()
        (slope,) = torch.autograd.grad(score(x).sum(), x, create_graph=True)
        norm = (slope.flatten(1).square().sum(1) + EPS).sqrt()
        return (norm - 1).square().mean()


def condition(image: Tensor, size: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Image (N, 3, H, W) uint8 RGB -> (N, 3, h, w) from -1 to 1; area average where it shrinks, else bilinear."""
    x = image.to(dtype) / 127.5 - 1
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if size[0] <= x.shape[-2] and size[1] <= x.shape[-1]:
        return F.interpolate(x, size=tuple(size), mode="area")
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


@LOSSES.register("skd_holistic")
class Holistic(DistillationLoss):
    """``-mean D(p(student) | image)`` (equation 3) for a critic D that learns to tell it from the teacher's.

    Use: p is the softmax over classes; the image (uint8 RGB, brought to the logits' height and width and to -1..1)
    stands beside it as three more channels. D lowers ``critic_loss``: ``mean D(student) - mean D(teacher) + lambda_gp *
    GP`` (a Wasserstein distance, with ``gradient_penalty``), or the hinge form without a penalty. D is
    ``skd_critic.Critic``: four convolutions with spectral norm, self-attention after the last two, one score of a map
    of 64 x 64 to 79 x 79 positions (smaller maps are padded), several of a larger map, which are averaged.

    Taps: the logits at the networks' own stride, before they are resized to the image (published: 65 x 65), since the
    attention is quadratic in the positions of the map shrunk 8 times.

    Published weights for Cityscapes: 0.1 (SKD, wgan-gp), 0.001 (IFVD, wgan-gp; CIRKD, hinge); they carry over. The
    critic's published factor, lambda_d = 0.1, is left to its learning rate (published: 4e-4; Adam, which does not see
    the factor, with betas 0.9 and 0.99 in IFVD and CIRKD, SGD in SKD).

    The term is unbounded both ways and has no minimum at student = teacher. A batch repeated twice gives the same
    value; a map tiled 2 x 2 does not, as the critic sees the seams. The module says what differs from the published
    code.

    Args:
        kind: "wgan-gp" or "hinge".
        lambda_gp: factor of the gradient penalty in the critic's loss.
        conv_dim: channels of the critic's first convolution.
        conditional: the critic sees the image.

    >>> import torch
    >>> loss, image = Holistic(conv_dim=8), torch.zeros(2, 3, 64, 128, dtype=torch.uint8)
    >>> loss.prepare([(2, 5, 8, 16)], [(2, 5, 8, 16)], [])
    >>> student, teacher = torch.randn(2, 2, 5, 8, 16)
    >>> bool(loss(student, teacher, image=image).isfinite())
    True
    >>> bool(loss.critic_loss(student, teacher, image=image, draw=loss.sample((2, 5, 8, 16), seed=0)) > 0)
    True
    """

    # Of the student's and the critic's terms: all average over samples and scores; their factors (0.1 and 0.001 of the
    # student's term, 0.1 of the critic's) stand outside. Only the penalty differs, and only where the critic gives
    # several scores for one map: it is the published one from 64 x 64 to 79 x 79 positions.
    published_scale = {"skd": "1", "ifvd": "1", "cirkd": "1"}

    takes_mask = False
    critic: Critic | None

    def __init__(
        self, kind: str = "wgan-gp", lambda_gp: float = 10.0, conv_dim: int = 64, conditional: bool = True
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise UserError(f"{NAME}: unknown kind {kind!r}; {nearest(kind, KINDS)}")
        self.kind, self.conv_dim = kind, integer(conv_dim, "conv_dim", NAME)
        self.conditional = flag(conditional, "conditional", NAME)
        self.lambda_gp = positive(lambda_gp, "lambda_gp", NAME)
        self.critic = None
        self.num_classes = 0

    def prepare(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        teacher_modules: Sequence[nn.Module],
    ) -> None:
        """The critic; the global random state stays as it is."""
        shape = student_shapes[0]
        if len(student_shapes) != 1 or len(shape) != 4 or shape[1] < 2:
            raise UserError(f"{NAME} takes one tap of logits (N, C, H, W) of at least 2 classes, got {student_shapes}")
        with torch.random.fork_rng(devices=[]):
            self.critic = Critic(shape[1] + 3 * self.conditional, self.conv_dim)
        self.num_classes = shape[1]

    def sample(self, *shapes: tuple[int, ...], seed: int, index: Sequence[int] | None = None) -> Tensor | None:
        """The place (N,) from 0 to 1 between student and teacher of each sample's penalty; None for "hinge"."""
        if self.kind == "hinge":
            return None
        return uniform((), shapes[0][0], seed, index)

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
        """Logits (N, C, H, W) of the student, image (N, 3, h, w) uint8 -> scalar; the rest is not used."""
        if valid is not None:
            raise UserError(f"{NAME}: its critic judges whole maps and takes no mask")
        critic = self._critic()
        x = single(student, NAME)
        with no_autocast(x):
            x, seen = self._inputs(x, image)
            # through the critic, not to it: this term would teach it to like the student
            held = {name: parameter.detach() for name, parameter in critic.named_parameters()}
            return generator_term(torch.func.functional_call(critic, held, (torch.cat([x, *seen], 1),)))

    def critic_parameters(self) -> list[nn.Parameter]:
        """The parameters of the critic."""
        return list(self._critic().parameters())

    def critic_loss(self, student: Tensors, teacher: Tensors, *, image: Tensor | None, draw: Any) -> Tensor:
        """Logits of both sides, image and ``sample``'s draw -> what the critic lowers, a scalar of at least float32."""
        critic = self._critic()
        s, t = single(student, NAME).detach(), single(teacher, NAME).detach()
        same_shape(s, t, NAME)
        if draw is None and self.kind == "wgan-gp":
            raise UserError(f"{NAME}: its gradient penalty needs a draw: loss.sample(...) makes it")
        with no_autocast(s):
            (s, seen), (t, _) = self._inputs(s, image), self._inputs(t, image)
            of_student, of_teacher = critic(torch.cat([torch.cat([x, *seen], 1) for x in (s, t)])).chunk(2)
            value = critic_term(of_student, of_teacher, self.kind)
            if self.kind == "hinge":
                return value

            def score(x: Tensor) -> Tensor:
                mean: Tensor = critic(torch.cat([x, *seen], 1)).flatten(1).mean(1)
                return mean

            return value + self.lambda_gp * gradient_penalty(score, s, t, draw)

    def after_step(self) -> None:
        """The spectral norms follow the weights."""
        self._critic().iterate()

    def _critic(self) -> Critic:
        if self.critic is None:
            raise UserError(f"{NAME} has no critic yet; call prepare(student_shapes, teacher_shapes, teacher_modules)")
        return self.critic

    def _inputs(self, logits: Tensor, image: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Probabilities (N, C, H, W), and the image beside them, both in the critic's precision."""
        if logits.dim() != 4 or logits.shape[1] != self.num_classes:
            made = f"(N, {self.num_classes}, H, W)"
            raise UserError(f"{NAME}: its critic was made for logits {made}, got {tuple(logits.shape)}")
        dtype = self._critic().score.weight.dtype
        probability = upcast(logits).softmax(dim=1).to(dtype)
        if not self.conditional:
            return probability, []
        if image is None or image.dtype != torch.uint8 or image.dim() != 4 or image.shape[1] != 3:
            got = "none" if image is None else f"{tuple(image.shape)} {image.dtype}"
            raise UserError(
                f"{NAME}: its critic sees the image (N, 3, H, W) uint8, got {got}; or set conditional=False"
            )
        if image.shape[0] != logits.shape[0]:
            raise UserError(f"{NAME}: {image.shape[0]} images for {logits.shape[0]} maps of logits")
        return probability, [condition(image, logits.shape[-2:], dtype)]

    def extra_repr(self) -> str:
        return f"kind={self.kind}, lambda_gp={self.lambda_gp:g}, conditional={self.conditional}"
