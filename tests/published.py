"""Published networks to compare with: shapes and MACs as counted on the authors' code (golden/networks.json)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "networks.json").read_text())
Shapes = Counter[tuple[int, ...]]


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """The network in eval, without memory for its weights."""
    with torch.device("meta"):
        return build().eval()


def shapes_of(network: nn.Module) -> Shapes:
    """How often each parameter shape occurs."""
    return Counter(tuple(p.shape) for p in network.parameters())


def published_shapes(name: str) -> Shapes:
    return Counter({tuple(shape): count for shape, count in GOLDEN[name]["param_shapes"]})


def gmacs(network: nn.Module, height: int, width: int) -> float:
    """GMAC of one image: convolutions and matrix products, by torch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, height, width, device="meta"))
    return counter.get_total_flops() / 2e9


def difference(network: nn.Module, name: str) -> tuple[Shapes, Shapes]:
    """Parameter shapes that the network has beyond the published one, and those that it lacks."""
    own, theirs = shapes_of(network), published_shapes(name)
    return own - theirs, theirs - own
