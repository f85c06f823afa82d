"""Contrastive representation distillation (Tian et al., ICLR 2020, arXiv 1910.10699).

Different from the published code: its alias table for uniform draws is left out; a zero vector gives zero instead
of NaN; float32 logarithms of quotients near 1 are exact; a negative is never the sample itself; "regions", whose
negatives come from slots written so far (an image lacks most classes, their slots would stay random), as soon as
there are any; banks are updated after the step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from segkd.arguments import integer, number, positive
from segkd.errors import UserError, nearest
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
from segkd.losses.gram import gram
from segkd.losses.sampling import IGNORE_INDEX, Sampler, gather_rows, generator, labelled
from segkd.losses.similarity import unit

NAME = "ContrastiveRepresentation"
MODES = ("regions", "batch")
EPS = 1e-7  # the published code's, beside the noise density
BLOCK = {"cpu": 2**20, "other": 2**26}  # similarities held at a time


def contrast(similarity: Tensor, noise: Tensor, log_z: Tensor, slots: int) -> Tensor:
    """``-log h(positive) - sum over noise of log(1 - h(negative))`` of each sample (the authors' equation 18), (M,).

    ``h = P / (P + m / n)`` with ``P = exp(similarity) / Z``, n slots and the sample's m negatives: both logarithms are
    softplus of a difference, exact where the quotient rounds to 1 and safe from overflow.

    Args:
        similarity: (M, 1 + K) cosines over the temperature, of the positive and then of the negatives.
        noise: (M, K), which negatives count.
        log_z: logarithm of the constant Z.
        slots: n.
    """
    count = noise.sum(1, keepdim=True).to(similarity.dtype)
    bound = log_z + torch.log(count / slots + EPS)
    negative = F.softplus(similarity[:, 1:] - bound) * noise
    rounding = count * torch.log1p(EPS * slots / count.clamp_min(1))
    value: Tensor = F.softplus(bound - similarity[:, :1]) + negative.sum(1, keepdim=True) + rounding
    return value[:, 0]


class Choice(NamedTuple):
    """Which of a bank's slots M samples are compared with.

    own (M,): the positive's slot. place (M,): the sample's image in the batch. negative (N, K): slots drawn for each
    image. classes: K where a slot's remainder by it is a class, and negatives of the sample's own class do not count;
    None where slots are images, and the sample's own one does not count.
    """

    own: Tensor
    place: Tensor
    negative: Tensor
    classes: int | None

    def blocks(self, anchors: Tensor, bank: Tensor, temperature: float) -> Iterator[tuple[Tensor, Tensor]]:
        """(M, D) anchors, (n, D) bank -> by blocks of rows, cosines over the temperature (m, 1 + K) and noise (m, K).

        All n products of an anchor cost less than gathering K vectors, and leave K numbers behind, not K * D.
        """
        length = max(1, BLOCK.get(anchors.device.type, BLOCK["other"]) // bank.shape[0])
        by = self.classes or bank.shape[0]
        for first in range(0, len(self.own), length):
            block = slice(first, first + length)
            own, negative = self.own[block], self.negative[self.place[block]]
            slots = torch.cat([own[:, None], negative], 1)
            yield (anchors[block] / temperature @ bank.T).gather(1, slots), negative % by != (own % by)[:, None]


class _ContrastSum(torch.autograd.Function):
    """Sum of ``contrast`` over samples; the gradient is made in the forward pass, block by block."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, anchors: Tensor, bank: Tensor, choice: Choice, log_z: Tensor, temperature: float
    ) -> Tensor:
        wanted = bool(ctx.needs_input_grad[0])  # type: ignore[attr-defined]
        total, grad = anchors.new_zeros(()), torch.zeros_like(anchors)
        with torch.set_grad_enabled(wanted):
            inner = anchors.detach().requires_grad_(wanted)
            for similarity, noise in choice.blocks(inner, bank, temperature):
                value = contrast(similarity, noise, log_z, bank.shape[0]).sum()
                total += value.detach()
                if wanted:
                    grad += torch.autograd.grad(value, inner)[0]
        ctx.grad = grad  # type: ignore[attr-defined]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        return grad * ctx.grad, None, None, None, None  # type: ignore[attr-defined]


@torch.no_grad()
def log_normaliser(anchors: Tensor, bank: Tensor, choice: Choice, temperature: float) -> Tensor:
    """log Z = log(slots * mean of exp(similarity)) over the positives and counted negatives of all processes.

    Minus infinity where there is no sample.
    """
    parts = [anchors.new_full((2,), -math.inf)]
    for similarity, noise in choice.blocks(anchors, bank, temperature):
        kept = torch.cat([torch.ones_like(noise[:, :1]), noise], 1)
        logs = similarity.masked_fill(~kept, -math.inf).flatten().logsumexp(0)
        parts.append(torch.stack([logs, kept.sum().to(logs.dtype).log()]))
    total, count = gather_rows(torch.stack(parts).logsumexp(0, keepdim=True)).logsumexp(0)
    return torch.where(count.isfinite(), total - count + math.log(bank.shape[0]), total)


@LOSSES.register("crd")
class ContrastiveRepresentation(DistillationLoss):
    """``mean over samples of contrast(student's embedding, teacher's bank) + contrast(teacher's, student's bank)``.

    Use: a sample is the mean feature of a class in an image ("regions", needs labels) or of a whole image ("batch"). A
    linear embedding for each side brings it to ``feat_dim`` and unit length; both train with the student. Two banks
    hold every sample's embeddings, in the slot that the image's number in the data set (``index=``) and the class give,
    and move towards the new ones after each optimiser step: ``unit(momentum * old + (1 - momentum) * new)``, the same
    on every process; embeddings of one slot in one step are averaged. Each image draws ``nce_k`` slots as negatives;
    its own one ("batch"), or those of the sample's class ("regions"), do not count. Z is estimated for each side from
    the first batch and stays.

    Taps: a deep feature (N, C, H, W), or a pooled one (N, C) with "batch"; any widths.

    Published for CIFAR (pooled feature): weight 0.8 beside 1 of the labels, 16384 negatives, temperature 0.07, momentum
    0.5, 128 dimensions; the weight carries over. There is no publication for segmentation. A batch repeated twice and a
    map tiled 2 x 2 give the same value. The value is not 0 where student equals teacher; it has no closed minimum. The
    module says what differs from the published code.

    Memory: 8 * n_data * num_classes * feat_dim bytes with "regions" (58 MB for Cityscapes; mind ADE20K: 3 GB), and for
    a batch's M samples 4 * M * n_data * num_classes bytes for a while.

    Args:
        n_data: images in the training data set, augmented copies not counted (2975: Cityscapes).
        num_classes: K, for "regions".
        samples: "regions" or "batch".

    >>> import torch
    >>> loss = ContrastiveRepresentation(n_data=100, samples="batch", nce_k=50)
    >>> loss.prepare([(2, 4, 6, 10)], [(2, 8, 6, 10)], [])
    >>> draw, index = loss.sample((2, 4, 6, 10), seed=0, index=[3, 7]), torch.tensor([3, 7])
    >>> bool(loss(torch.randn(2, 4, 6, 10), torch.randn(2, 8, 6, 10), draw=draw, index=index) > 0)
    True
    """

    published_scale = {"repdistiller": "1"}  # it too sums over negatives and averages over samples

    any_channels = True
    uses_index = True
    student_bank: Tensor
    teacher_bank: Tensor
    written: Tensor
    log_z: Tensor
    started: Tensor

    def __init__(
        self,
        n_data: int = 2975,
        num_classes: int = 19,
        samples: str = "regions",
        feat_dim: int = 128,
        nce_k: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        if samples not in MODES:
            raise UserError(f"{NAME}: unknown samples {samples!r}; {nearest(samples, MODES)}")
        self.regions = samples == "regions"
        self.n_data = integer(n_data, "n_data", NAME, least=1 if self.regions else 2)
        self.num_classes = integer(num_classes, "num_classes", NAME, least=2 if self.regions else 1)
        self.feat_dim, self.nce_k = integer(feat_dim, "feat_dim", NAME), integer(nce_k, "nce_k", NAME)
        self.temperature = positive(temperature, "temperature", NAME)
        self.momentum = number(momentum, "momentum", NAME, least=0, below=1)
        self.slots = self.n_data * self.num_classes if self.regions else self.n_data
        self.ignore_index = integer(ignore_index, "ignore_index", NAME, least=None)
        self.student_embedding: nn.Linear | None = None
        self.teacher_embedding: nn.Linear | None = None
        self._sampler = Sampler("regions", num_classes=num_classes, ignore_index=ignore_index)
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []

    def prepare(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        teacher_modules: Sequence[nn.Module],
    ) -> None:
        """The embeddings, and banks of random vectors."""
        limit = math.sqrt(3 / self.feat_dim)  # about unit length
        with torch.random.fork_rng(devices=[]):
            self.student_embedding = nn.Linear(student_shapes[0][1], self.feat_dim)
            self.teacher_embedding = nn.Linear(teacher_shapes[0][1], self.feat_dim)
            for name in ("student_bank", "teacher_bank"):
                self.register_buffer(name, torch.empty(self.slots, self.feat_dim).uniform_(-limit, limit))
        self.register_buffer("written", torch.zeros(self.slots, dtype=torch.bool))
        self.register_buffer("log_z", torch.zeros(2))
        self.register_buffer("started", torch.tensor(False))

    def sample(self, *shapes: tuple[int, ...], seed: int, index: Sequence[int] | None = None) -> Tensor:
        """Slots of the negatives of each image, (N, nce_k), uniform with replacement."""
        if self.student_embedding is None:
            raise UserError(f"{NAME} has no banks yet; call prepare(student_shapes, teacher_shapes, teacher_modules)")
        numbers = range(shapes[0][0]) if index is None else [int(i) for i in index]
        written = self.written.nonzero()[:, 0].cpu() if self.regions else torch.empty(0, dtype=torch.long)
        among = len(written) or self.slots
        draws = [torch.randint(among, (self.nce_k,), generator=generator(seed, number)) for number in numbers]
        return written[torch.stack(draws)] if len(written) else torch.stack(draws)

    def forward(
        self,
        student: Tensors,
        teacher: Tensors,
        label: Tensor | None = None,
        *,
        image: Tensor | None = None,
        draw: Tensor | None = None,
        valid: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        """Features of both sides, label (N, H, W) for "regions", ``sample``'s draw, index (N,) -> scalar."""
        s, t = single(student, NAME), single(teacher, NAME).detach()
        if self.student_embedding is None or self.teacher_embedding is None:
            raise UserError(f"{NAME} has no banks yet; call prepare(student_shapes, teacher_shapes, teacher_modules)")
        if index is None or draw is None:
            raise UserError(f"{NAME} needs index=, the samples' numbers in the data set, and a draw: loss.sample(...)")
        index, draw = index.to(s.device), draw.to(s.device)
        wrong = index[(index < 0) | (index >= self.n_data)]
        if len(wrong):
            raise UserError(
                f"{NAME}: sample {int(wrong[0])} is not from 0 to below n_data={self.n_data}; set n_data in the loss"
            )
        with no_autocast(s):
            rows_s, rows_t, place, classes = self._samples(s, t, label, valid)
            pairs = (self.student_embedding, rows_s), (self.teacher_embedding, rows_t)
            v_s, v_t = (_embed(layer, cast_to_part(layer, rows)) for layer, rows in pairs)
            own = index[place] * self.num_classes + classes if self.regions else index[place]
            choice = Choice(own, place, draw, self.num_classes if self.regions else None)
            sides = [(v, bank.to(v.dtype)) for v, bank in ((v_s, self.teacher_bank), (v_t, self.student_bank))]
            terms = []
            for (v, bank), log_z in zip(sides, self._log_z(sides, choice), strict=True):
                terms.append(_ContrastSum.apply(v, bank, choice, log_z.to(v.dtype), self.temperature))
            if self.training:
                self._pending.append((own, v_s.detach(), v_t.detach()))
            return mean_over(torch.stack(terms).sum(), torch.tensor(len(own), device=s.device))

    def _samples(
        self, student: Tensor, teacher: Tensor, label: Tensor | None, valid: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features -> rows (M, C) of both sides, each one's image in this batch, and its class."""
        if student.dim() == 2 and valid is not None and valid.dim() > 1:
            raise UserError(f"{NAME}: a pooled tap (N, C) has no positions to leave out; give its bind masked=False")
        valid = valid_mask(valid, (student.shape[0], *student.shape[2:]), NAME)
        if not self.regions:
            counted = student.new_ones(student.shape[0], 1) if valid is None else valid.reshape(valid.shape[0], -1)
            place = counted.any(1).nonzero()[:, 0]
            rows = [_mean(upcast(x), valid)[place] for x in (student, teacher)]
            return rows[0], rows[1], place, torch.zeros_like(place)
        if label is None:
            raise UserError(f"{NAME} of class regions needs the labels; or take samples='batch'")
        labelled(label, self.num_classes, self.ignore_index, NAME)
        found = self._sampler(student, teacher, label, valid=valid)
        return found.student, found.teacher, found.image, found.label

    @torch.no_grad()
    def _log_z(self, sides: list[tuple[Tensor, Tensor]], choice: Choice) -> Tensor:
        """log Z of both sides: the stored ones, or this first batch's."""
        if bool(self.started):
            return self.log_z
        found = [log_normaliser(v, bank, choice, self.temperature) for v, bank in sides]
        log_z = torch.stack(found).to(self.log_z)
        if self.training and bool(log_z.isfinite().all()):
            self.log_z.copy_(log_z)
            self.started.fill_(True)
        return log_z

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the banks towards the embeddings that all processes gave since the last step."""
        given, self._pending = self._pending, []
        none = self.student_bank.new_zeros(1, self.feat_dim)  # a row ahead: a process may have no sample
        slots = gather_rows(torch.cat([torch.full((1,), -1, device=none.device), *(own for own, _, _ in given)]))
        present: Tensor = torch.unique(slots[slots >= 0])
        member = (slots == present[:, None]).to(none.dtype)
        for side, bank in enumerate((self.student_bank, self.teacher_bank), start=1):
            rows = gather_rows(torch.cat([none, *(batch[side].to(none) for batch in given)]))
            mean = member @ rows / member.sum(1, keepdim=True)
            bank[present] = unit(self.momentum * bank[present] + (1 - self.momentum) * mean)
        self.written[present] = True

    def extra_repr(self) -> str:
        return f"n_data={self.n_data}, samples={'regions' if self.regions else 'batch'}, nce_k={self.nce_k}"


def _embed(layer: nn.Linear, rows: Tensor) -> Tensor:
    """(M, C) -> (M, D) of unit length, in full precision both ways."""
    return unit(gram(rows[None], layer.weight[None])[0] + layer.bias)


def _mean(x: Tensor, valid: Tensor | None) -> Tensor:
    """(N, C, ...) -> (N, C) means over the (valid) positions; zero where there are none."""
    flat = x.reshape(*x.shape[:2], -1)
    if valid is None:
        return flat.mean(2)
    counted = valid.reshape(valid.shape[0], 1, -1)
    return flat.masked_fill(~counted, 0).sum(2) / counted.sum(2).clamp_min(1)
