"""Cross-image relational knowledge distillation (Yang et al., CVPR 2022, arXiv 2204.06986): its mini-batch-based
pixel-to-pixel, memory-based pixel-to-pixel and memory-based pixel-to-region distillation.

Different from the published code, with reason:

- the pixel queue gets pixels of the class (published: whatever lies at the map's beginning), and wraps around
  without overwriting its newest slots and leaving others stale;
- only filled slots are compared with (published: random vectors at first); while a queue is empty its term is 0;
- the queues take a batch after the optimiser's step, not before the loss, and from all processes only the selected
  vectors travel; their drawing depends on the images, not on the process;
- pairs are formed over the images of all processes (published: of each one); the paper's batch is one process's;
- pixels labelled ``ignore_index`` take no part in the memory terms, nor in the head's BatchNorm (published: they
  count there, and do here with ``ignored_in_norm``); the mini-batch term uses no labels: give ``masked=True`` to
  the bind to leave them out there too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.arguments import flag, integer, positive, weights
from segkd.errors import UserError
from segkd.losses.base import (
    LOSSES,
    DistillationLoss,
    Tensors,
    cast_to_part,
    mean_over,
    no_autocast,
    single,
    upcast,
    valid_mask,
)
from segkd.losses.cirkd_head import ProjectionHead
from segkd.losses.memory import ClassQueue
from segkd.losses.sampling import IGNORE_INDEX, Sampler, gather_rows, generator, labelled
from segkd.losses.similarity import relation_kl, unit

NAME = "CrossImageRelational"
NOISE = 1e-3  # projected vectors shorter than this are the rounding of a constant map; they have no direction
PIXELS_PER_REGION = 16  # that enter the queue, for each image and class
AUTOMATIC_POOL = (4, 256)  # the published cell, and the height and width from which on it is used


def minibatch_pixel(
    student: Tensor, teacher: Tensor, temperature: float = 0.1, valid: Tensor | None = None, pool: int | None = None
) -> Tensor:
    """``mean over images j and pixels p of all images of KL(R_j(teacher, p) || R_j(student, p))``.

    ``R_j(f, p) = softmax over the pixels q of image j of cos(f_p, f_q) / temperature``; images are those of all
    processes. Per pair of images the similarities are never held whole, nor for the backward pass: they are made in
    blocks of rows, each of which adds to the gradient at once.

    Args:
        student, teacher: features (N, C, H, W) of one N, H, W, any C on either side; the teacher is detached.
        temperature: of the softmax over pixels.
        valid: (N, H, W), true where a pixel counts, as row and as column. An image without any is not counted.
        pool: side of the cells that are averaged first; None = 4 if H and W are both 256 or more, else 1.

    Returns:
        A scalar of at least float32. It is 0 where both networks relate the pixels alike.
    """
    _check(student, teacher)
    n, _, h, w = student.shape
    valid = valid_mask(valid, (n, h, w), NAME)
    cell = pool or (AUTOMATIC_POOL[0] if min(h, w) >= AUTOMATIC_POOL[1] else 1)
    with no_autocast(student):
        (s, counted), (t, _) = (_pooled(upcast(x), valid, cell) for x in (student, teacher.detach()))
        sizes = gather_rows(counted.flatten(1).sum(1))
        total = relation_kl(unit(s[counted]), unit(t[counted]), None, sizes.tolist(), temperature)
        return mean_over(total, counted.sum()) / (sizes > 0).sum().clamp_min(1)


def memory_contrast(
    student: Tensor, teacher: Tensor, memory: Tensor, contrast_temperature: float = 0.1, kd_temperature: float = 1.0
) -> Tensor:
    """``kd_temperature^2 * mean over pixels of KL(R(teacher) || R(student))``.

    ``R(f) = softmax over the entries m of the memory of cos(f, m) / (contrast_temperature * kd_temperature)``.

    Args:
        student, teacher: one row of unit length (or zero) for each pixel, (M, D) with M >= 0; the teacher is detached.
        memory: (E, D) entries of unit length, without gradient. With none, the value is 0.

    Returns:
        A scalar; the pixels of all processes count alike.
    """
    with no_autocast(student):
        s, t = upcast(student), upcast(teacher.detach())
        scaled = contrast_temperature * kd_temperature
        total = relation_kl(s, t, memory.to(s.dtype), [memory.shape[0]], scaled)
        return kd_temperature**2 * mean_over(total, torch.tensor(s.shape[0], device=s.device))


def _check(student: Tensor, teacher: Tensor) -> None:
    if student.dim() != 4 or student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:]:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise UserError(f"{NAME} takes features (N, C, H, W) of one N, H and W on both sides, got {shapes}")


def _pooled(x: Tensor, valid: Tensor | None, cell: int) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) -> (N, h, w, C) averages over cells, up to a factor for each, and which cells (N, h, w) count."""
    if valid is not None and cell > 1:
        x = x.masked_fill(~valid[:, None], 0)
        valid = F.max_pool2d(valid[:, None].float(), cell, ceil_mode=True)[:, 0] > 0
    if cell > 1:
        x = F.avg_pool2d(x, cell, ceil_mode=True)
    counted = torch.ones(x.shape[0], *x.shape[2:], dtype=torch.bool, device=x.device) if valid is None else valid
    return x.permute(0, 2, 3, 1), counted


class Draw(NamedTuple):
    """Priority (N, H * W) of each pixel to enter the queue, the lowest first, and an order of each queue's slots."""

    pixels: Tensor
    slots: dict[str, Tensor]


class Memory(NamedTuple):
    """A memory term: its weight, its queue's size and how many entries of it are drawn, for each class."""

    weight: float
    size: int
    entries: int


@LOSSES.register("cirkd")
class CrossImageRelational(DistillationLoss):
    """``lambda_minibatch_pixel * minibatch_pixel + lambda_memory_pixel * (...) + lambda_memory_region * (...)``.

    Use: the last two are ``memory_contrast`` of every labelled pixel with a memory of teacher pixels, and with one of
    class regions' means, both of them queues for each class; a term of weight 0 is left out, with its parts. Taps: the
    head's last feature before the classifier of both networks, any widths. The memory terms bring the student to the
    teacher's width by a head of their own, which trains with the student; the teacher is not projected.

    Published for Cityscapes, beside pixel-wise KD of weight 1, and all of it the defaults: weights 1, 0.1 and 0.1 (VOC
    1, 0.01, 0.01); temperatures 0.1 (mini-batch), 0.1 and 1 (memories); a memory of 20000 pixels (SegFormer 2000) and
    2000 regions a class; from each class ``contrast_size // num_classes + 1`` entries, drawn anew each step, of sizes
    4096 (pixels) and 1024 (regions). All weights carry over.

    A batch repeated twice and a map tiled 2 x 2 give the same value, up to which pixels the queues then take. The
    module says what differs from the published code.

    >>> import torch
    >>> feature = torch.randn(2, 8, 6, 10)
    >>> loss = CrossImageRelational(lambda_memory_pixel=0, lambda_memory_region=0)
    >>> abs(float(loss(feature, 3 * feature))) < 1e-6
    True
    """

    # Of each term. The authors too average over pixels and pairs of images, and multiply by the square of the
    # temperature of the distillation, but not by that of the contrast.
    published_scale = {"cirkd": "1"}

    any_channels = True

    def __init__(
        self,
        num_classes: int = 19,
        lambda_minibatch_pixel: float = 1.0,
        lambda_memory_pixel: float = 0.1,
        lambda_memory_region: float = 0.1,
        temperature: float = 0.1,
        contrast_temperature: float = 0.1,
        contrast_kd_temperature: float = 1.0,
        pixel_memory_size: int = 20000,
        region_memory_size: int = 2000,
        pixel_contrast_size: int = 4096,
        region_contrast_size: int = 1024,
        pool: int | None = None,
        ignore_index: int = IGNORE_INDEX,
        ignored_in_norm: bool = False,
    ) -> None:
        super().__init__()
        self.minibatch_weight, pixel_weight, region_weight = weights(
            NAME,
            lambda_minibatch_pixel=lambda_minibatch_pixel,
            lambda_memory_pixel=lambda_memory_pixel,
            lambda_memory_region=lambda_memory_region,
        )
        self.num_classes = integer(num_classes, "num_classes", NAME)
        self.pool = None if pool is None else integer(pool, "pool", NAME)
        self.ignore_index = integer(ignore_index, "ignore_index", NAME, least=None)
        self.ignored_in_norm = flag(ignored_in_norm, "ignored_in_norm", NAME)
        self.temperature = positive(temperature, "temperature", NAME)
        self.contrast_temperature = positive(contrast_temperature, "contrast_temperature", NAME)
        self.contrast_kd_temperature = positive(contrast_kd_temperature, "contrast_kd_temperature", NAME)
        self.memories = {
            "pixel": Memory(
                pixel_weight,
                integer(pixel_memory_size, "pixel_memory_size", NAME),
                integer(pixel_contrast_size, "pixel_contrast_size", NAME) // self.num_classes + 1,
            ),
            "region": Memory(
                region_weight,
                integer(region_memory_size, "region_memory_size", NAME),
                integer(region_contrast_size, "region_contrast_size", NAME) // self.num_classes + 1,
            ),
        }
        self.memories = {name: memory for name, memory in self.memories.items() if memory.weight > 0}
        self.head: ProjectionHead | None = None
        self.queues = nn.ModuleDict()
        self._pixels = Sampler("pixels")
        self._pending: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in self.memories}

    def prepare(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        teacher_modules: Sequence[nn.Module],
    ) -> None:
        """The student's head and the empty queues, of the teacher's width; nothing without a memory term."""
        if not self.memories:
            return
        student, teacher = student_shapes[0][1], teacher_shapes[0][1]
        with torch.random.fork_rng(devices=[]):
            self.head = ProjectionHead(student, teacher)
        for name, memory in self.memories.items():
            self.queues[name] = ClassQueue(self.num_classes, memory.size, teacher)

    def sample(self, *shapes: tuple[int, ...], seed: int, index: Sequence[int] | None = None) -> Draw | None:
        """None without a memory term."""
        if not self.memories:
            return None
        pixels = self._pixels.draw(shapes[0], seed, index)
        assert pixels is not None
        slots = {
            name: torch.randperm(memory.size, generator=generator(seed, len(name)))
            for name, memory in self.memories.items()
        }
        return Draw(pixels, slots)

    def forward(
        self,
        student: Tensors,
        teacher: Tensors,
        label: Tensor | None = None,
        *,
        image: Tensor | None = None,
        draw: Draw | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Features (N, C, H, W) of both sides, label (N, H, W) for the memory terms, ``sample``'s draw -> scalar."""
        s, t = single(student, NAME), single(teacher, NAME).detach()
        _check(s, t)
        with no_autocast(s):
            terms = []
            if self.minibatch_weight > 0:
                terms.append(self.minibatch_weight * minibatch_pixel(s, t, self.temperature, valid, self.pool))
            if self.memories:
                terms.append(self._memory_terms(s, t, label, draw, valid))
            return torch.stack(terms).sum()

    def _memory_terms(
        self, student: Tensor, teacher: Tensor, label: Tensor | None, draw: Draw | None, valid: Tensor | None
    ) -> Tensor:
        if self.head is None:
            raise UserError(f"{NAME} has no memory yet; call prepare(student_shapes, teacher_shapes, teacher_modules)")
        if label is None or draw is None:
            raise UserError(f"{NAME}: its memory terms need the labels and a draw: loss.sample(...) makes it")
        positions = (student.shape[0], *student.shape[2:])
        counted = valid_mask(labelled(label, self.num_classes, self.ignore_index, NAME), positions, NAME)
        assert counted is not None
        if valid is not None:
            counted = counted & valid.bool()
        s = unit(self.head.rows(cast_to_part(self.head, student), counted, self.ignored_in_norm), NOISE)
        t = unit(cast_to_part(self.head, teacher).permute(0, 2, 3, 1)[counted])
        terms = []
        for name, memory in self.memories.items():
            entries = self._queue(name).pick(draw.slots[name], memory.entries)
            term = memory_contrast(s, t, entries, self.contrast_temperature, self.contrast_kd_temperature)
            terms.append(memory.weight * term)
        if self.training:
            self._remember(t, label, counted, draw.pixels.to(label.device))
        return torch.stack(terms).sum()

    @torch.no_grad()
    def _remember(self, teacher: Tensor, label: Tensor, counted: Tensor, priority: Tensor) -> None:
        """Keep, until the optimiser has stepped, what the queues will take: (M, D) rows of the counted pixels."""
        image = counted.nonzero()[:, 0]
        group = image * self.num_classes + label[counted]  # one for each image and class, in this order
        sizes = torch.bincount(group, minlength=label.shape[0] * self.num_classes)
        present = sizes.nonzero()[:, 0]
        if "region" in self.memories:
            sums = teacher.new_zeros(len(sizes), teacher.shape[1]).index_add_(0, group, teacher)
            self._pending["region"].append((unit(sums[present] / sizes[present, None]), present % self.num_classes))
        if "pixel" in self.memories:
            order = torch.argsort(priority[counted.flatten(1)])
            order = order[torch.argsort(group[order], stable=True)]
            place = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[group[order]]
            chosen = order[place < PIXELS_PER_REGION]
            self._pending["pixel"].append((teacher[chosen], group[chosen] % self.num_classes))

    def after_step(self) -> None:
        """Put into the queues what the batches since the last step gave, of all processes in rank order."""
        for name in self.queues:
            queue = self._queue(name)
            width = queue.entries.shape[2]
            given, self._pending[name] = self._pending[name], []
            entries = torch.cat([queue.entries.new_zeros(1, width), *(e.to(queue.entries) for e, _ in given)])
            classes = torch.cat([queue.pointer.new_full((1,), IGNORE_INDEX), *(c for _, c in given)])
            entries, classes = gather_rows(entries), gather_rows(classes)  # the row ahead: a process may have none
            taken = classes != IGNORE_INDEX
            queue.push(entries[taken], classes[taken])

    def _queue(self, name: str) -> ClassQueue:
        queue = self.queues[name]
        assert isinstance(queue, ClassQueue)
        return queue

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}, minibatch={self.minibatch_weight:g}, memories={self.memories}"
