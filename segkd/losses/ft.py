"""Factor transfer: paraphrased features of the teacher (Kim, Park, Kwak, NeurIPS 2018, arXiv 1802.04977)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segkd.arguments import number, positive
from segkd.errors import UserError
from segkd.losses.base import (
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

NAME = "FactorTransfer"
EPS = 1e-4  # a factor of a smaller root mean square fades out with it instead of blowing noise up to unit size
SLOPE = 0.1  # of the leaky ReLU


def factor_transfer(student: Tensor, teacher: Tensor, p: float = 1.0, valid: Tensor | None = None) -> Tensor:
    """``mean over samples, channels and positions of |F(student) - F(teacher)|^p``, F = factor / its root mean square.

    The root mean square is one number per sample, over channels and positions: up to the factor that
    ``published_scale`` gives, the paper's ``|| f_s / ||f_s|| - f_t / ||f_t|| ||_p^p`` of whole flattened factors
    (section 3). Written with means the value does not shrink as the map grows.

    Args:
        student, teacher: factors (N, C, H, W), one shape; the teacher's is detached.
        p: exponent, at least 1 (the paper's experiments: 1).
        valid: (N, H, W), true where a position takes part; None takes all. A sample without any valid position is not
            counted; with none at all the value is 0.

    Returns:
        A scalar of at least float32, 0 where one factor is the other one times a positive number.

    Raises:
        UserError: not four dimensions, unequal shapes, a p below 1, or a mask of another shape.
    """
    number(p, "p", NAME, least=1)
    if student.dim() != 4:
        raise UserError(f"{NAME} takes factors (N, C, H, W), got a student of shape {tuple(student.shape)}")
    same_shape(student, teacher, NAME)
    n, c, h, w = student.shape
    mask = valid_mask(valid, (n, h, w), NAME)
    with no_autocast(student):
        positions = student.new_full((n,), h * w, dtype=torch.int64) if mask is None else mask.flatten(1).sum(1)
        size = (c * positions.clamp_min(1))[:, None]
        f_s, f_t = (_unit_size(x, size, mask) for x in (student, teacher.detach()))
        distance = (f_s - f_t).abs()
        # no power for p = 1, and the sum before its division: each would write whole factors, and their gradients
        total = ((distance if p == 1 else distance.pow(p)).sum(1) / size[:, 0]).sum()
        return total / n if mask is None else mean_over(total, (positions > 0).sum())


def _unit_size(factor: Tensor, size: Tensor, mask: Tensor | None) -> Tensor:
    """(N, C, H, W) -> (N, C * H * W) of root mean square 1 over the valid positions, 0 at the others."""
    x = upcast(factor)
    x = (x if mask is None else x.masked_fill(~mask[:, None], 0)).flatten(1)
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / (length / size.to(x.dtype).sqrt()).clamp_min(EPS)


class Paraphraser(nn.Module):
    """Autoencoder of the teacher's feature: three 3 x 3 convolutions to the factor, three transposed ones back.

    Each is followed by a leaky ReLU of slope 0.1, the last one too, as the authors have it.
    """

    def __init__(self, channels: int, factors: int) -> None:
        super().__init__()
        self.encoder = encoder(channels, factors)
        widths = [(factors, factors), (factors, channels), (channels, channels)]
        layers = [(nn.ConvTranspose2d(a, b, kernel_size=3, padding=1), nn.LeakyReLU(SLOPE)) for a, b in widths]
        self.decoder = nn.Sequential(*(part for layer in layers for part in layer))

    def forward(self, feature: Tensor) -> Tensor:
        """(N, C, H, W) -> its reconstruction."""
        made: Tensor = self.decoder(self.encoder(feature))
        return made


def encoder(channels: int, factors: int) -> nn.Sequential:
    """(N, channels, H, W) -> (N, factors, H, W): three 3 x 3 convolutions, each followed by a leaky ReLU."""
    widths = [(channels, channels), (channels, factors), (factors, factors)]
    layers = [(nn.Conv2d(a, b, kernel_size=3, padding=1), nn.LeakyReLU(SLOPE)) for a, b in widths]
    return nn.Sequential(*(part for layer in layers for part in layer))


@LOSSES.register("ft")
class FactorTransfer(DistillationLoss):
    """``factor_transfer`` between the translator's factor of the student and the paraphraser's of the teacher.

    Both parts are the loss's own, made for any channels on either side: no connector is needed. In the first stage the
    paraphraser learns to reconstruct the teacher's feature, ``mean (feature - paraphraser(feature))^2``; then it is
    frozen (it never gets a gradient from ``forward``), and the translator trains with the student. Give the bind
    ``first_stage=dict(steps=..., optimizer=...)``; published: 30 epochs with a rate of 0.01 (RepDistiller).

    Published: paraphrase rate k = 0.5, p = 1, at the last feature before the classifier; nothing for segmentation. For
    weights see ``published_scale``. The two parts cost 15.75 * C^2 multiplications per position each at k = 0.5 and
    equal channels: tap where the teacher has at most about 512 channels. No BatchNorm, as the authors; RepDistiller and
    mmrazor put it into the translator.

    The value is not 0 for student = teacher, whose factors come from two networks. A batch repeated twice gives the
    same value; a map tiled 2 x 2 differs by the convolutions' borders. With ``valid``, features count as 0 at the
    positions left out, and factors are compared at the others.

    >>> import torch
    >>> loss = FactorTransfer()
    >>> loss.prepare([(2, 4, 6, 10)], [(2, 8, 6, 10)], [])
    >>> bool(loss(torch.randn(2, 4, 6, 10), torch.randn(2, 8, 6, 10)) > 0)
    True
    """

    # RepDistiller's is another function: it collapses each factor to its mean square over the channels first, which is
    # attention transfer behind two networks, and pools factors of unequal size to a square of the smaller height. Its
    # scale is that of factor_transfer of factors so collapsed.
    published_scale = {
        "authors": "(C * H * W)**(-p / 2)",  # mean over N and C * H * W of unit vectors' distance; at p = 1 their 500
        # becomes 500 / sqrt(C * H * W): 11.0 with CIFAR's factors of 32 x 8 x 8
        "mmrazor": "(C * H * W)**(-p / 2)",  # 1 becomes 1 / sqrt(C * H * W)
        "repdistiller": "(H * W)**(-p / 2)",  # 200 becomes 200 / sqrt(H * W)
    }

    any_channels = True

    def __init__(self, k: float = 0.5, p: float = 1.0) -> None:
        super().__init__()
        self.k = positive(k, "k, the factor's share of the teacher's channels,", NAME)
        self.p = number(p, "p", NAME, least=1)
        self.paraphraser: Paraphraser | None = None
        self.translator: nn.Sequential | None = None

    def prepare(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        teacher_modules: Sequence[nn.Module],
    ) -> None:
        """Make the paraphraser and the translator, without moving torch's random state."""
        one_map_a_side(student_shapes, teacher_shapes, NAME)
        student, teacher = student_shapes[0][1], teacher_shapes[0][1]
        factors = max(1, round(self.k * teacher))
        with torch.random.fork_rng(devices=[]):
            self.paraphraser, self.translator = Paraphraser(teacher, factors), encoder(student, factors)

    def first_stage_parameters(self) -> list[nn.Parameter]:
        """The paraphraser's."""
        return list(self._parts()[0].parameters())

    def first_stage_loss(self, teacher: Tensors) -> Tensor:
        """Feature (N, C, H, W) of the teacher -> mean squared error of its reconstruction."""
        paraphraser, _ = self._parts()
        feature = single(teacher, NAME).detach()
        with no_autocast(feature):
            x = cast_to_part(paraphraser, feature)
            loss: Tensor = (paraphraser(x) - x).square().mean()
            return loss

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
        """Features (N, C_s, H, W) and (N, C_t, H, W) -> scalar; ``label``, ``image`` and ``draw`` are not used."""
        s, t = single(student, NAME), single(teacher, NAME)
        paraphraser, translator = self._parts()
        if s.dim() != 4 or t.dim() != 4 or s.shape[0] != t.shape[0] or s.shape[2:] != t.shape[2:]:
            shapes = f"{tuple(s.shape)} and {tuple(t.shape)}"
            raise UserError(f"{NAME} takes features (N, C, H, W) of one N, H and W, got {shapes} (a bind resizes)")
        mask = valid_mask(valid, (s.shape[0], *s.shape[2:]), NAME)
        with no_autocast(s):
            s, t = cast_to_part(translator, s), cast_to_part(paraphraser, t)
            if mask is not None:
                s, t = s.masked_fill(~mask[:, None], 0), t.masked_fill(~mask[:, None], 0)
            with torch.no_grad():
                teacher_factor = paraphraser.encoder(t)
            return factor_transfer(translator(s), teacher_factor, self.p, mask)

    def _parts(self) -> tuple[Paraphraser, nn.Sequential]:
        if self.paraphraser is None or self.translator is None:
            raise UserError(f"{NAME} has no weights yet; call prepare(...) before its first use (a bind does)")
        return self.paraphraser, self.translator

    def extra_repr(self) -> str:
        return f"k={self.k:g}, p={self.p:g}"
