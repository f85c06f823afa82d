"""The exponential moving average (EMA) of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch

from segkd.models.base import Network


class Average:
    """A copy of a network whose weights follow the network's: ``average = decay * average + (1 - decay) * weights``.

    At first the decay is ``(1 + updates) / (10 + updates)``, if that is smaller, so that the start of a training is
    soon forgotten (as in TensorFlow's ExponentialMovingAverage). BatchNorm's statistics are averaged too.

    Args:
        network: on its device, in its memory format.
        decay: in 0..1, 0.999 for thousands of steps, 0.9999 for tens of thousands.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network, self.decay, self.updates = deepcopy(network).eval().requires_grad_(False), decay, 0

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """Follow the network, after a step of its optimiser."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for own, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if own.is_floating_point():
                own.lerp_(new, 1 - decay)
            else:
                own.copy_(new)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"updates": self.updates, "network": self.network.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a kept average."""
        self.updates = state["updates"]
        self.network.load_state_dict(state["network"])
