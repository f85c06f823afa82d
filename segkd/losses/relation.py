"""What losses that relate samples to each other have in common: which samples, of which processes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from segkd.losses.base import DistillationLoss, Tensors, no_autocast, single, valid_mask
from segkd.losses.sampling import IGNORE_INDEX, Sampler, gather_rows


class RelationLoss(DistillationLoss):
    """Base of ``sp``, ``rkd``, ``pkt`` and ``cc``: a value of the samples of one tap, those of all processes.

    Every process computes the same relations of all samples, and gets the gradient to its own ones.

    Args:
        samples: "pixels": ``count`` random positions per image; "regions": the mean feature of every class in every
            image, from the labels; "batch": whole images, flattened, or pooled features (N, C) (the publications'
            samples; images must be many).
        count: positions per image, for "pixels". With M samples in all, relations take M^2 (RKD's angles M^3) steps.
        num_classes: K, for "regions".
        ignore_index: label of pixels in no region.
    """

    any_channels = True

    def __init__(self, samples: str, count: int, num_classes: int | None, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.sampler = Sampler(samples, count, num_classes, ignore_index)

    @abstractmethod
    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        """M >= 1 samples of both sides, (M, D_s) and (M, D_t), at least float32 -> scalar."""

    def sample(self, *shapes: tuple[int, ...], seed: int, index: Sequence[int] | None = None) -> Any:
        """The priorities (N, H * W) of pixels of maps (N, C, H, W) to be samples, the lowest first; else None."""
        return self.sampler.draw(shapes[0], seed, index)

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
        """Features (N, C, H, W) of both sides, or (N, C) for "batch", any C, for regions the label (N, H, W) -> scalar.

        Pixels and regions are taken where ``valid`` (N, H, W) is true; whole images count as zero elsewhere. The value
        is 0, with zero gradient, where there is no sample.
        """
        s, t = self._rows(single(student, self._name()), single(teacher, self._name()), label, draw, valid)
        with no_autocast(s):
            s, t = gather_rows(s), gather_rows(t)
            return self.relation(s, t) if s.shape[0] else s.sum()

    def _rows(
        self, student: Tensor, teacher: Tensor, label: Tensor | None, draw: Any, valid: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """This process's samples, (M, D_s) and (M, D_t)."""
        if student.dim() == 4:
            valid = valid_mask(valid, (student.shape[0], *student.shape[2:]), self._name())
        drawn = self.sampler(student, teacher, label, draw, valid)
        if valid is None or self.sampler.mode != "batch":
            return drawn.student, drawn.teacher
        some = valid.flatten(1).any(1)
        if student.dim() == 2:
            return drawn.student[some], drawn.teacher[some]
        void = ~valid[some].flatten(1)  # of each channel, one after the other
        s = drawn.student[some].masked_fill(void.repeat(1, student.shape[1]), 0)
        return s, drawn.teacher[some].masked_fill(void.repeat(1, teacher.shape[1]), 0)

    def _name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        sampler = self.sampler
        return f"samples={sampler.mode!r}" + (f", count={sampler.count}" if sampler.mode == "pixels" else "")
