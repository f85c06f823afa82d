"""Label-only terms: the main loss on the logits, and auxiliary heads on taps. The same in both arms of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.registry import build
from segkd.taps import read_taps

IGNORE_INDEX = 255


class CrossEntropy(nn.Module):
    """Cross entropy over the valid pixels of the whole batch: ``sum(ce) / count(label != ignore_index)``.

    Shapes: logits (N, K, H, W), label (N, H, W) int64. Zero, with zero gradient, where every pixel is ignored. Across
    processes the count is averaged, so the gradients equal those of one process that sees the whole batch.

    Args:
        class_weight: K factors, or None.
        ignore_index: the label that takes no part.
    """

    def __init__(self, class_weight: Sequence[float] | None = None, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("class_weight", weight, persistent=False)
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weight = self.class_weight if isinstance(self.class_weight, Tensor) else None
        total = F.cross_entropy(logits, label, weight=weight, ignore_index=self.ignore_index, reduction="sum")
        valid = label != self.ignore_index
        count = valid.sum().to(total.dtype) if weight is None else weight[label[valid]].sum().to(total.dtype)
        return total / mean_over_processes(count).clamp(min=1e-6 if weight is not None else 1.0)


def mean_over_processes(value: Tensor) -> Tensor:
    """A denominator averaged over all processes (itself in a single one); carries no gradient."""
    value = value.detach()
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return value


class AuxHead(nn.Module):
    """3x3 convolution to half the channels, BN, ReLU, dropout, 1x1 convolution to K logits.

    Args:
        in_channels: channels of the tap; filled in by ``Supervision`` from what the tap gives.
        num_classes: K.
        dropout: probability before the classifier.
    """

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        middle = max(in_channels // 2, 1)
        self.conv = nn.Conv2d(in_channels, middle, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(middle)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(middle, num_classes, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, K, h, w)."""
        logits: Tensor = self.classifier(self.dropout(F.relu(self.norm(self.conv(feature)))))
        return logits


class Supervision(nn.Module):
    """All label-only terms of one network.

    Args:
        terms: ``{name: dict(tap=None or path, head=dict(type=AuxHead), loss=dict(type=CrossEntropy), weight=1.0)}``.
            Without a tap the term sees the network's logits. ``head`` is needed exactly where there is a tap. With
            ``stride=s`` logits (bilinear) and label (nearest) meet at 1/s of the label's size, default 1: on a CPU a
            full-size auxiliary term costs as much as the network's own forward. Default: one term ``main``, cross
            entropy on the logits.
        network: the network whose taps are probed.
        probe: an input (1, 3, H, W) for that network.
    """

    def __init__(self, terms: Mapping[str, Mapping[str, Any]] | None, network: nn.Module, probe: Tensor) -> None:
        super().__init__()
        self.terms = {"main": {}} if terms is None else {name: dict(term) for name, term in terms.items()}
        if not self.terms:
            raise UserError("supervision has no term; leave it out for cross entropy on the logits")
        for name, term in self.terms.items():
            _check_term(name, term)
        self.weights = {name: float(term.get("weight", 1.0)) for name, term in self.terms.items()}
        self.taps = {name: term["tap"] for name, term in self.terms.items() if term.get("tap") is not None}
        shapes = {path: tuple(x.shape) for path, x in read_taps(network, list(self.taps.values()), probe).items()}
        self.heads = nn.ModuleDict()
        for name, path in self.taps.items():
            self.heads[name] = build(
                dict(self.terms[name]["head"], in_channels=shapes[path][1], num_classes=_num_classes(network)), "head"
            )
        self.losses = nn.ModuleDict(
            {name: build(term.get("loss") or dict(type=CrossEntropy), "loss") for name, term in self.terms.items()}
        )

    @property
    def paths(self) -> list[str]:
        """The taps that the terms read."""
        return list(self.taps.values())

    def forward(self, logits: Tensor, features: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Logits (N, K, H, W), tapped features, label (N, H, W) -> {``loss_<name>``: weighted scalar}."""
        terms: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            output = self.heads[name](features[self.taps[name]]) if name in self.taps else logits
            target = shrink_label(label, int(self.terms[name].get("stride", 1)))
            if output.shape[-2:] != target.shape[-2:]:
                output = F.interpolate(output.float(), size=target.shape[-2:], mode="bilinear", align_corners=False)
            terms[f"loss_{name}"] = weight * self.losses[name](output, target)
        return terms


def shrink_label(label: Tensor, stride: int) -> Tensor:
    """(N, H, W) -> every ``stride``-th pixel, from the middle of its cell, so that no class is invented."""
    return label if stride == 1 else label[:, stride // 2 :: stride, stride // 2 :: stride]


def _num_classes(network: nn.Module) -> int:
    return int(network.num_classes)  # type: ignore[arg-type]


def _check_term(name: str, term: Mapping[str, Any]) -> None:
    known = {"tap", "head", "loss", "weight", "stride"}
    unknown = sorted(set(term) - known)
    if unknown:
        raise UserError(f"supervision {name!r} has no key {unknown[0]!r}; its keys are {sorted(known)}")
    if (term.get("tap") is None) != (term.get("head") is None):
        raise UserError(f"supervision {name!r}: a tap and a head go together (head=dict(type=AuxHead))")
    if int(term.get("stride", 1)) < 1:
        raise UserError(f"supervision {name!r}: stride must be 1 or more, got {term['stride']}")
