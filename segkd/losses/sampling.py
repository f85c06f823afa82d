"""Samples for losses that relate samples to each other: pixels or class regions of dense features, or whole images.

In segmentation a batch has 2 to 8 images, too few for a matrix of relations; pixels and regions give hundreds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from segkd.arguments import integer
from segkd.errors import UserError, nearest
from segkd.losses.base import no_autocast, upcast

MODES = ("pixels", "regions", "batch")
IGNORE_INDEX = 255
_PRIME = 0x9E3779B97F4A7C15


class Samples(NamedTuple):
    """M samples of both sides, in the order of the images.

    student (M, D_s), teacher (M, D_t, without gradient), image (M,): the sample's place in this process's batch,
    label (M,): its class; 255 where there is none (unlabelled pixels, whole images).
    """

    student: Tensor
    teacher: Tensor
    image: Tensor
    label: Tensor


class Sampler:
    """Which samples a relation loss compares.

    Args:
        mode: "pixels": ``count`` random positions per image; "regions": the mean feature of every class in every image
            (needs labels); "batch": each whole image, flattened.
        count: positions per image; fewer where fewer are valid.
        num_classes: K, for "regions".
        ignore_index: label of pixels that belong to no region.
    """

    def __init__(
        self, mode: str = "pixels", count: int = 128, num_classes: int | None = None, ignore_index: int = IGNORE_INDEX
    ) -> None:
        if mode not in MODES:
            raise UserError(f"unknown samples {mode!r}; {nearest(mode, MODES)}")
        if mode == "regions" and num_classes is None:
            raise UserError("samples of class regions need num_classes")
        self.mode, self.count = mode, integer(count, "count", "samples")
        self.num_classes = 0 if num_classes is None else integer(num_classes, "num_classes", "samples")
        self.ignore_index = integer(ignore_index, "ignore_index", "samples", least=None)

    def draw(self, shape: Sequence[int], seed: int, index: Sequence[int] | None = None) -> Tensor | None:
        """A random priority (N, H * W) of each pixel of maps (N, C, H, W); else None.

        Row n depends on (seed, index[n]) alone, or on (seed, n) without ``index``.
        """
        if self.mode != "pixels":
            return None
        return uniform((shape[2] * shape[3],), shape[0], seed, index)

    def __call__(
        self,
        student: Tensor,
        teacher: Tensor,
        label: Tensor | None = None,
        draw: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Samples:
        """Features (N, C, H, W) of both sides (H, W alike, any C), label and valid (N, H, W) -> samples.

        For "batch", pooled features (N, C) will do as well. Values are raised to at least float32. There may be no
        sample at all (M = 0).
        """
        known = (4, 2) if self.mode == "batch" else (4,)
        alike = student.shape[0] == teacher.shape[0] and student.shape[2:] == teacher.shape[2:]
        if student.dim() not in known or student.dim() != teacher.dim() or not alike:
            shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
            raise UserError(
                "samples are taken from maps (N, C, H, W) of one N, H and W on both sides, or from vectors (N, C) with "
                f'samples="batch"; got {shapes}'
            )
        with no_autocast(student):
            student, teacher = upcast(student), upcast(teacher.detach())
            if self.mode == "batch":
                image = torch.arange(student.shape[0], device=student.device)
                unlabelled = torch.full_like(image, self.ignore_index)
                return Samples(student.flatten(1), teacher.flatten(1), image, unlabelled)
            if self.mode == "regions":
                return self._regions(student, teacher, label, valid)
            return self._pixels(student, teacher, label, draw, valid)

    def _pixels(
        self, student: Tensor, teacher: Tensor, label: Tensor | None, draw: Tensor | None, valid: Tensor | None
    ) -> Samples:
        if draw is None:
            raise UserError("samples of pixels need a draw: loss.sample(...) makes it")
        priority = draw.to(student.device)
        if valid is not None:
            priority = priority.masked_fill(~valid.flatten(1).bool(), float("inf"))
        count = min(self.count, priority.shape[1])
        smallest, position = priority.topk(count, dim=1, largest=False)
        image, place = smallest.isfinite().nonzero(as_tuple=True)
        position = position[image, place]
        classes = torch.full_like(image, self.ignore_index) if label is None else label.flatten(1)[image, position]
        return Samples(student.flatten(2)[image, :, position], teacher.flatten(2)[image, :, position], image, classes)

    def _regions(self, student: Tensor, teacher: Tensor, label: Tensor | None, valid: Tensor | None) -> Samples:
        if label is None:
            raise UserError("samples of class regions need the labels")
        member = class_members(label, self.num_classes, student.dtype, self.ignore_index, valid)
        size = member.sum(1)
        image, classes = size.nonzero(as_tuple=True)
        weight = member / size.clamp_min(1)[:, None]
        sides = (student, teacher)
        means = [torch.bmm(x.flatten(2), weight.to(x.dtype)).transpose(1, 2)[image, classes] for x in sides]
        return Samples(means[0], means[1], image, classes)


def labelled(label: Tensor, num_classes: int, ignore_index: int, name: str, cure: str = "set it in the loss") -> Tensor:
    """The mask of labels other than ``ignore_index``; a UserError if one of these is no class 0..num_classes - 1."""
    found = label != ignore_index
    wrong = found & ((label < 0) | (label >= num_classes))
    if bool(wrong.any()):
        raise UserError(
            f"{name}: a label is {int(label[wrong][0])}, but num_classes={num_classes}; {cure}, or map the label to "
            f"ignore_index={ignore_index}"
        )
    return found


def class_members(
    label: Tensor, num_classes: int, dtype: torch.dtype, ignore_index: int = IGNORE_INDEX, valid: Tensor | None = None
) -> Tensor:
    """Label (N, H, W) -> membership (N, H * W, K) of 0 and 1; rows of ignored or invalid pixels are all 0."""
    flat = label.flatten(1)
    taking_part = labelled(flat, num_classes, ignore_index, "samples of class regions")
    if valid is not None:
        taking_part = taking_part & valid.flatten(1).bool()
    one_hot = F.one_hot(flat.masked_fill(~taking_part, 0), num_classes).to(dtype)
    return one_hot * taking_part[..., None]


def uniform(size: tuple[int, ...], samples: int, seed: int, index: Sequence[int] | None = None) -> Tensor:
    """Numbers (N, *size) uniform in [0, 1), on the CPU, each sample's drawn by the seed and its number in ``index``."""
    numbers = range(samples) if index is None else [int(i) for i in index]
    return torch.stack([torch.rand(size, generator=generator(seed, number)) for number in numbers])


def generator(*numbers: int) -> torch.Generator:
    """A CPU generator seeded by integers; any change of one of them gives an unrelated stream."""
    state = 0
    for number in numbers:
        state = ((state ^ number) * _PRIME + 0xD1B54A32D192ED03) & (2**64 - 1)
        state ^= state >> 29
    return torch.Generator().manual_seed(state >> 1)


def gather_rows(rows: Tensor) -> Tensor:
    """(M, ...) of every process, one after the other in the order of the ranks; itself in a single process.

    M may differ between processes. The gradient comes back to this process's rows times the number of processes: DDP
    averages gradients over processes, and each of them computes the same loss from all the rows.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> Tensor:
        world, rank = distributed.get_world_size(), distributed.get_rank()
        counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world)]
        distributed.all_gather(counts, torch.tensor([rows.shape[0]], device=rows.device))
        sizes = [int(count) for count in counts]
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
        padded[: rows.shape[0]] = rows
        parts = [torch.empty_like(padded) for _ in range(world)]
        distributed.all_gather(parts, padded)
        start = sum(sizes[:rank])
        ctx.own, ctx.world = slice(start, start + sizes[rank]), world  # type: ignore[attr-defined]
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        own: Tensor = grad[ctx.own] * ctx.world  # type: ignore[attr-defined]
        return own
