"""Knowledge adaptation for efficient semantic segmentation (He et al., CVPR 2019, arXiv 1903.04688): the losses of the
parts "Knowledge Translation and Adaptation" (autoencoder, adapted features) and "Affinity Distillation Module".

What differs from published code: torchdistill's affinity compares, channel by channel, the products of positions of
maps normalised over space, and takes the Frobenius norm without its square; the paper's, built here, is of cosines
of the positions' vectors. Its codes divided by bare norms are NaN for zeros; here small ones fade out.
Its adapters keep the student's size (stride 1), and behind the convolution of C_f stand BatchNorm and ReLU (C_a has
none, as here): the code, and so what C_f has to give, has both signs, and BatchNorm would mix in the positions that
``valid`` leaves out, and fail for a single position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.arguments import integer, number, positive, weights
from segkd.errors import UserError
from segkd.losses.base import (
    LOSSES,
    DistillationLoss,
    Tensors,
    cast_to_part,
    no_autocast,
    one_map_a_side,
    single,
    valid_mask,
)
from segkd.losses.ft import factor_transfer
from segkd.losses.skd_pair import pair_wise

NAME = "KnowledgeAdaptation"
SPARSITY = 1e-7  # of the code's L1 norm beside the reconstruction's squared error
SLOPE = 0.1  # of the leaky ReLU


def affinity(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """``mean over samples and pairs of positions (i, j) of (cos(s_i, s_j) - cos(t_i, t_j))^2``: the affinity term.

    It is SKD's pair-wise term without pooling, with a gradient through the vectors' lengths, by its cheap form. See
    ``segkd.losses.skd_pair.pair_wise`` for arguments and errors.
    """
    return pair_wise(student, teacher, detach_norm=False, valid=valid)


class Autoencoder(nn.Module):
    """Three 3 x 3 convolutions to the code (the first one with the stride), three transposed ones back to the size."""

    def __init__(self, channels: int, codes: int, stride: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, codes, kernel_size=3, stride=stride, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(codes, codes, kernel_size=3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(codes, codes, kernel_size=3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(codes, codes, kernel_size=3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.ConvTranspose2d(codes, codes, kernel_size=3, padding=1),
            nn.LeakyReLU(SLOPE),
        )
        self.grow = nn.ConvTranspose2d(codes, channels, kernel_size=3, stride=stride, padding=1)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> code (N, C', H / stride, W / stride, both rounded up) and reconstruction (N, C, H, W)."""
        code: Tensor = self.encoder(feature)
        return code, self.grow(self.decoder(code), output_size=list(feature.shape[2:]))


@LOSSES.register("knowledge_adaptation")
class KnowledgeAdaptation(DistillationLoss):
    """``lambda_adapt * factor_transfer(C_f(s), E(t)) + lambda_affinity * affinity(C_a(s), E(t))``.

    Use: E is the encoder of an autoencoder of the teacher's feature, C_f and C_a are two adapters of the student's: 3 x
    3 convolutions with the encoder's stride to its channels. All are the loss's own, made for any channels on either
    side: no connector is needed. ``factor_transfer`` compares whole codes divided by their size (see
    ``segkd.losses.ft``); with its p = 1 and the 2-norm these are the paper's p and q.

    In the first stage the autoencoder D(E(.)) learns from the teacher by
    ``(||t - D(E(t))||_2^2 + 1e-7 * ||E(t)||_1) / (C * H * W)``; then it is frozen (it never gets a gradient from
    ``forward``) and the adapters train with the student. Give the bind ``first_stage=dict(steps=..., optimizer=...)``;
    published: one epoch (torchdistill, rate 0.1, weight decay 1e-4, batch 4).

    Published: weights 50 and 1, tap = the last feature of the backbone (torchdistill: the teacher's logits). The
    default 0.1 is 50 for a code of 128 x 32 x 64 (``published_scale``), ours of 256 channels at 1/8 of 512 x 1024; no
    publication tells its code's size. Here it holds for every size: use weight 1.

    The value is not 0 for student = teacher, whose codes come from different networks. A batch repeated twice gives the
    same value; a map tiled 2 x 2 differs by the convolutions' borders. With ``valid``, features count as 0 at positions
    left out, and positions of the code are compared where one of their pixels is valid. The module says what differs
    from published code.

    Args:
        k: the code's share of the teacher's channels.
        stride: of the encoder and the adapters.
        p: exponent of ``factor_transfer``.
        lambda_adapt, lambda_affinity: weights of the two terms.

    >>> import torch
    >>> loss = KnowledgeAdaptation()
    >>> loss.prepare([(2, 4, 6, 10)], [(2, 8, 6, 10)], [])
    >>> bool(loss(torch.randn(2, 4, 6, 10), torch.randn(2, 8, 6, 10)) > 0)
    True
    """

    # Term by term, for a code of C x H x W. The authors have no code: "adapt" is torchdistill's form at p = 1,
    # "affinity" the paper's. For "adapt" the paper writes a norm, not a mean: so, 50 would be 50 * sqrt(C * H * W).
    published_scale = {
        "adapt": "(C * H * W)**-0.5",  # mean over N and C * H * W of unit vectors' distance: 50 / sqrt(C * H * W)
        "affinity": "1",  # mean over N and pairs of squared differences; its weight is 1
    }

    any_channels = True

    def __init__(
        self, k: float = 0.5, stride: int = 2, p: float = 1.0, lambda_adapt: float = 0.1, lambda_affinity: float = 1.0
    ) -> None:
        super().__init__()
        self.k = positive(k, "k, the code's share of the teacher's channels,", NAME)
        self.stride, self.p = integer(stride, "stride", NAME), number(p, "p", NAME, least=1)
        self.lambda_adapt, self.lambda_affinity = weights(
            NAME, lambda_adapt=lambda_adapt, lambda_affinity=lambda_affinity
        )
        self.autoencoder: Autoencoder | None = None
        self.feature_adapter: nn.Conv2d | None = None
        self.affinity_adapter: nn.Conv2d | None = None

    def prepare(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        teacher_modules: Sequence[nn.Module],
    ) -> None:
        """Make the autoencoder and the adapters, without moving torch's random state."""
        one_map_a_side(student_shapes, teacher_shapes, NAME)
        student, teacher = student_shapes[0][1], teacher_shapes[0][1]
        codes = max(1, round(self.k * teacher))
        with torch.random.fork_rng(devices=[]):
            self.autoencoder = Autoencoder(teacher, codes, self.stride)
            self.feature_adapter, self.affinity_adapter = (
                nn.Conv2d(student, codes, kernel_size=3, stride=self.stride, padding=1) for _ in range(2)
            )

    def first_stage_parameters(self) -> list[nn.Parameter]:
        """The autoencoder's."""
        return list(self._parts()[0].parameters())

    def first_stage_loss(self, teacher: Tensors) -> Tensor:
        """Feature (N, C, H, W) of the teacher -> squared error of its reconstruction, and the code's sparsity."""
        autoencoder = self._parts()[0]
        feature = single(teacher, NAME).detach()
        with no_autocast(feature):
            x = cast_to_part(autoencoder, feature)
            code, made = autoencoder(x)
            loss: Tensor = ((x - made).square().sum() + SPARSITY * code.abs().sum()) / x.numel()
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
        s, t = single(student, NAME), single(teacher, NAME).detach()
        autoencoder, feature_adapter, affinity_adapter = self._parts()
        if s.dim() != 4 or t.dim() != 4 or s.shape[0] != t.shape[0] or s.shape[2:] != t.shape[2:]:
            shapes = f"{tuple(s.shape)} and {tuple(t.shape)}"
            raise UserError(f"{NAME} takes features (N, C, H, W) of one N, H and W, got {shapes} (a bind resizes)")
        mask = valid_mask(valid, (s.shape[0], *s.shape[2:]), NAME)
        with no_autocast(s):
            s, t = cast_to_part(feature_adapter, s), cast_to_part(autoencoder, t)
            if mask is not None:
                s, t = s.masked_fill(~mask[:, None], 0), t.masked_fill(~mask[:, None], 0)
                mask = F.max_pool2d(mask[:, None].float(), self.stride, ceil_mode=True)[:, 0] > 0
            with torch.no_grad():
                code = autoencoder.encoder(t)
            adapt = factor_transfer(feature_adapter(s), code, self.p, mask)
            total: Tensor = self.lambda_adapt * adapt + self.lambda_affinity * affinity(affinity_adapter(s), code, mask)
            return total

    def _parts(self) -> tuple[Autoencoder, nn.Conv2d, nn.Conv2d]:
        if self.autoencoder is None or self.feature_adapter is None or self.affinity_adapter is None:
            raise UserError(f"{NAME} has no weights yet; call prepare(...) before its first use (a bind does)")
        return self.autoencoder, self.feature_adapter, self.affinity_adapter

    def extra_repr(self) -> str:
        weights = f"lambda_adapt={self.lambda_adapt:g}, lambda_affinity={self.lambda_affinity:g}"
        return f"k={self.k:g}, stride={self.stride}, p={self.p:g}, {weights}"
