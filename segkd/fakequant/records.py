"""What the calls of a network give for an image, in samples, by which a value of an exported graph is found again."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segkd.fakequant.calls import INPUT, WEIGHTED, Calls, function_of, items_of

SAMPLES = 4096
TOLERANCE = 1e-3  # of the largest value; float32 alone moves values by 1e-6


class Sample(NamedTuple):
    """A tensor's shape, and what it holds at some positions that depend on its size alone."""

    shape: tuple[int, ...]
    values: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Sample:
        """The sample of a tensor."""
        flat = x.detach().reshape(-1)
        if flat.numel() > SAMPLES:
            generator = torch.Generator().manual_seed(flat.numel())
            flat = flat[torch.randint(flat.numel(), (SAMPLES,), generator=generator).to(x.device)]
        return cls(tuple(x.shape), flat.float().cpu().clone())

    def equals(self, other: Sample) -> bool:
        """True for a tensor that differs by rounding alone."""
        if self.shape != other.shape:
            return False
        return float((self.values - other.values).abs().max()) <= TOLERANCE * float(self.values.abs().max())


class Record(Calls):
    """What each call gave, in the order of the calls.

    Attributes:
        samples: name of a call -> sample.
        before: name of a call -> names of those whose results it took.
    """

    def __init__(self) -> None:
        super().__init__()
        self.samples: dict[str, Sample] = {}
        self.before: dict[str, list[str]] = {}
        self._made: dict[int, tuple[weakref.ref[Tensor], str]] = {}

    def call(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        before = [self._name(x) for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        given = func(*args, **kwargs)
        for item, tensor in items_of(name, given):
            if tensor.is_floating_point() and tensor.numel():
                self.keep(item, tensor)
                self.before[item] = [one for one in before if one]
        return given

    def keep(self, name: str, x: Tensor) -> None:
        """Note a tensor under a name."""
        self.samples[name] = Sample.of(x)
        self._made[id(x)] = weakref.ref(x), name

    def _name(self, x: Tensor) -> str:
        ref, name = self._made.get(id(x), (None, ""))
        return name if ref is not None and ref() is x else ""

    def find(self, sample: Sample) -> list[str]:
        """The calls that gave such a tensor, the first first."""
        return [name for name, own in self.samples.items() if own.equals(sample)]

    def weighted(self, name: str) -> str | None:
        """The call with weights whose result, normalised or not, is what ``name`` gave; None where there is none."""
        while name and function_of(name) not in WEIGHTED:
            above = self.before.get(name)
            if not above:
                return None
            name = above[0]
        return name or None


@torch.no_grad()
def record(network: nn.Module, x: Tensor) -> Record:
    """The calls of a network, in eval mode, for an input (N, 3, H, W)."""
    found = Record()
    found.keep(INPUT, x)
    with found.around(network):
        network(x)
    return found
