"""A network trained alone: network + supervision. Teachers and baselines."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from segkd.models import NETWORKS, Network
from segkd.supervision import Supervision
from segkd.taps import tap

PROBE_SIZE = (96, 128)


class TrainingModel(BaseModel):
    """What the runner trains: returns named loss terms, every one of which counts.

    Subclasses hold the trained network under ``student`` and define ``losses``.
    """

    student: Network
    #: number of the current training step; set by the engine, it seeds the draws of sampling losses
    step: int = 0

    def init_weights(self) -> None:
        """Networks initialise themselves when built; the runner must not do it again over loaded weights."""

    def losses(self, image: Tensor, label: Tensor, step: int) -> dict[str, Tensor]:
        """image (N, 3, H, W) uint8 RGB, label (N, H, W) int64 -> named, weighted scalars whose sum is minimised."""
        raise TypeError(f"{type(self).__name__} defines no losses")

    def forward(
        self, image: Tensor, label: Tensor | None = None, index: Tensor | None = None, mode: str = "tensor"
    ) -> Any:
        """``mode="loss"``: the terms; ``"predict"``: list of label maps (H, W); ``"tensor"``: logits (N, K, H, W)."""
        if mode == "loss":
            assert label is not None
            return self.losses(image, label, self.step)
        logits = self.student.predict(image)
        return list(logits.argmax(dim=1)) if mode == "predict" else logits

    def parse_losses(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of all terms (whatever their names), and the values to log."""
        total = torch.stack([value.reshape(()) for value in losses.values()]).sum()
        return total, OrderedDict(loss=total.detach(), **{k: v.detach() for k, v in losses.items()})


class Segmentor(TrainingModel):
    """A network under label supervision alone.

    Args:
        network: config of a network, or a Network.
        supervision: see ``segkd.supervision.Supervision``; default cross entropy on the logits.
        probe_size: (H, W) of the probe that finds the channels at the taps.
    """

    def __init__(
        self,
        network: Any,
        supervision: Mapping[str, Mapping[str, Any]] | None = None,
        probe_size: Sequence[int] = PROBE_SIZE,
    ) -> None:
        super().__init__()
        self.student = NETWORKS.build(network)
        self.supervision = Supervision(supervision, self.student, probe_input(self.student, probe_size))

    def losses(self, image: Tensor, label: Tensor, step: int) -> dict[str, Tensor]:
        with tap(self.student, self.supervision.paths) as features:
            logits = self.student.predict(image)
        terms: dict[str, Tensor] = self.supervision(logits, features, label)
        return terms


def probe_input(network: Network, size: Sequence[int]) -> Tensor:
    """A grey image (1, 3, H, W) through the network's own preprocessing."""
    parameter = next(network.parameters())
    image = torch.full((1, 3, *size), 128, dtype=torch.uint8, device=parameter.device)
    probe: Tensor = network.preprocess(image)
    return probe
