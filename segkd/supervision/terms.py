"""Label-only terms: the main loss on the logits, and auxiliary heads on taps. The same in both arms of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from segkd.arguments import integer, number, part_name
from segkd.errors import UserError, nearest
from segkd.registry import build
from segkd.supervision.cross_entropy import CrossEntropy, upcast
from segkd.taps import read_taps

TERM_KEYS = ("gate", "head", "loss", "stride", "tap", "weight")


class Supervision(nn.Module):
    """All label-only terms of one network.

    Args:
        terms: ``{name: dict(tap=None or path, head=dict(type=AuxHead), loss=dict(type=CrossEntropy), weight=1.0)}``.
            Without a tap the term sees the network's logits. ``head`` is needed exactly where there is a tap. With
            ``stride=s`` logits (bilinear) and label (nearest) meet at 1/s of the label's size, default 1: on a CPU a
            full-size auxiliary term costs as much as the network's own forward. ``gate=name`` hands the output of the
            term ``name`` (its head's, or the logits), resized alike, to a loss that takes one (``BoundaryAwareCE``).
            Default: one term ``main``, cross entropy on the logits.
        network: the network whose taps are probed.
        probe: an input (1, 3, H, W) for that network.
    """

    def __init__(self, terms: Mapping[str, Mapping[str, Any]] | None, network: nn.Module, probe: Tensor) -> None:
        super().__init__()
        if not isinstance(terms, Mapping | None):
            raise UserError(f"supervision must be a dict {{name: dict(...)}}, got {terms!r}")
        if terms is not None and not terms:
            raise UserError("supervision has no term; leave it out for cross entropy on the logits")
        for name, term in (terms or {}).items():
            _check_term(name, term)
        self.terms = {"main": {}} if terms is None else {name: dict(term) for name, term in terms.items()}
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
        self.gates = {name: term["gate"] for name, term in self.terms.items() if term.get("gate") is not None}
        for name in self.terms:
            self._check_gate(name)
            _check_class_weight(name, self.losses[name], _num_classes(network))

    @property
    def paths(self) -> list[str]:
        """The taps that the terms read."""
        return list(self.taps.values())

    def forward(self, logits: Tensor, features: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Logits (N, K, H, W), tapped features, label (N, H, W) -> {``loss_<name>``: weighted scalar}."""
        outputs = {name: self._output(name, logits, features) for name in self.terms}
        return {f"loss_{name}": self._term(name, outputs, label) for name in self.terms}

    def _term(self, name: str, outputs: Mapping[str, Tensor], label: Tensor) -> Tensor:
        """One weighted scalar, from what the terms see."""
        target = shrink_label(label, int(self.terms[name].get("stride", 1)))
        read = [outputs[name], *([outputs[self.gates[name]]] if name in self.gates else [])]
        met = [resize_to(output, target.shape[-2:]) for output in read]
        value: Tensor = self.weights[name] * self.losses[name](met[0], target, *met[1:])
        return value

    def _output(self, name: str, logits: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """What a term's loss and the terms it gates see: its head's output, or the logits."""
        output: Tensor = self.heads[name](features[self.taps[name]]) if name in self.taps else logits
        return output

    def _check_gate(self, name: str) -> None:
        """A gate is another term, and exactly the losses that take one have it."""
        gate, loss = self.gates.get(name), self.losses[name]
        others = [other for other in self.terms if other != name]
        if gate is not None and gate not in others:
            raise UserError(f"supervision {name!r}: gate {gate!r} is no other term; {nearest(str(gate), others)}")
        if gate is None and getattr(loss, "uses_gate", False):
            raise UserError(f"supervision {name!r}: {type(loss).__name__} needs gate=..., the name of another term")
        if gate is not None and not getattr(loss, "uses_gate", False):
            raise UserError(f"supervision {name!r}: {type(loss).__name__} takes no gate")


def resize_to(output: Tensor, size: Sequence[int]) -> Tensor:
    """(N, K, h, w) -> (N, K, H, W), bilinear, in at least float32 where anything changes."""
    if output.shape[-2:] == tuple(size):
        return output
    return F.interpolate(upcast(output), size=tuple(size), mode="bilinear", align_corners=False)


def shrink_label(label: Tensor, stride: int) -> Tensor:
    """(N, H, W) -> every ``stride``-th pixel, from the middle of its cell, so that no class is invented."""
    return label if stride == 1 else label[:, stride // 2 :: stride, stride // 2 :: stride]


def _num_classes(network: nn.Module) -> int:
    return int(network.num_classes)  # type: ignore[arg-type]


def _check_class_weight(name: str, loss: nn.Module, num_classes: int) -> None:
    """A loss, or one within it, has one factor a class, if it has any; torch's losses call them weight."""
    for part in loss.modules():
        key = "weight" if isinstance(part, nn.CrossEntropyLoss | nn.NLLLoss) else "class_weight"
        factors = getattr(part, key, None)
        if isinstance(factors, Tensor) and tuple(factors.shape) != (num_classes,):
            raise UserError(
                f"supervision {name!r}: {type(part).__name__} has a {key} of {factors.numel()} factors, but the "
                f"network has {num_classes} classes; give one factor a class"
            )


def _check_term(name: str, term: Mapping[str, Any]) -> None:
    part_name(name, "supervision")
    if not isinstance(term, Mapping):
        raise UserError(f"supervision {name!r} must be a dict of {', '.join(TERM_KEYS)}, got {term!r}")
    unknown = sorted(set(term) - set(TERM_KEYS))
    if unknown:
        raise UserError(f"supervision {name!r} has no key {unknown[0]!r}; its keys are {list(TERM_KEYS)}")
    if (term.get("tap") is None) != (term.get("head") is None):
        raise UserError(f"supervision {name!r}: a tap and a head go together (head=dict(type=AuxHead))")
    if not isinstance(term.get("gate"), str | None):
        raise UserError(f"supervision {name!r}: gate must be the name of a term, got {term['gate']!r}")
    if not isinstance(term.get("tap"), str | None):
        raise UserError(f"supervision {name!r}: tap must be the path of a layer, got {term['tap']!r}")
    integer(term.get("stride", 1), "stride", f"supervision {name!r}")
    number(term.get("weight", 1.0), "weight", f"supervision {name!r}", least=0)
