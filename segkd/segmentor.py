"""A network trained alone: network + supervision. Teachers and baselines."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segkd.models import NETWORKS, Network
from segkd.supervision import Supervision
from segkd.taps import tap

PROBE_SIZE = (96, 128)


class TrainingModel(BaseModel):
    """What the runner trains: returns named loss terms, every one of which counts.

    Subclasses hold the trained network under ``student`` and define ``losses``.
    """

    student: Network
    #: number of the current training step and the run's seed; set by the engine, they seed the draws of sampling losses
    step: int = 0
    seed: int = 0
    #: set by the engine for a step: fill ``gradient_norms``, at the price of one more backward pass per term
    watch_gradients: bool = False

    def __init__(self) -> None:
        super().__init__()
        #: norm of each term's gradient to all of the student's parameters
        self.gradient_norms: dict[str, float] = {}
        #: set by the engine where several processes train together; in a list, as it holds this module
        self.parallel: list[DistributedDataParallel] = []

    def init_weights(self) -> None:
        """Networks initialise themselves when built; the runner must not do it again over loaded weights."""

    def losses(self, image: Tensor, label: Tensor, step: int, index: Tensor | None = None) -> dict[str, Tensor]:
        """image (N, 3, H, W) uint8 RGB, label (N, H, W) int64 -> named, weighted scalars whose sum is minimised.

        ``index`` (N,) are the samples' numbers in the data set, for losses that remember or draw by sample.
        """
        raise TypeError(f"{type(self).__name__} defines no losses")

    def parameter_options(self) -> dict[str, dict[str, float]]:
        """Factors of learning rate (lr_mult) and weight decay (decay_mult) by the beginnings of parameter names."""
        return {}

    def terms(self) -> Mapping[str, Any]:
        """The binds to teachers by name."""
        return {}

    def critic_parameters(self) -> list[nn.Parameter]:
        """What an optimiser of its own trains, against the student (none: no loss has an adversary)."""
        return []

    def after_step(self) -> None:
        """Called once after every optimiser step."""

    def forward(
        self, image: Tensor, label: Tensor | None = None, index: Tensor | None = None, mode: str = "tensor"
    ) -> Any:
        """``mode="loss"``: the terms; ``"predict"``: list of label maps (H, W); ``"tensor"``: logits (N, K, H, W)."""
        if mode == "loss":
            assert label is not None
            terms = self.losses(image, label, self.step, index)
            if self.watch_gradients:
                self.gradient_norms = gradient_norms(terms, self.student)
            return terms
        logits = self.student.predict(image)
        return list(logits.argmax(dim=1)) if mode == "predict" else logits

    def _run_forward(self, data: Mapping[str, Any], mode: str) -> Any:
        """mmengine's way in; training steps go through the wrapper that averages gradients, if there is one."""
        through: nn.Module = self.parallel[0] if self.parallel and mode == "loss" else self
        return through(**data, mode=mode)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """For mmengine: inside, gradients are accumulated without averaging them over the processes."""
        with self.parallel[0].no_sync() if self.parallel else nullcontext():
            yield

    def parse_losses(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of all terms (whatever their names), and the values to log."""
        total = torch.stack([value.reshape(()) for value in losses.values()]).sum()
        return total, OrderedDict(loss=total.detach(), **{k: v.detach() for k, v in losses.items()})


def gradient_norms(terms: Mapping[str, Tensor], network: nn.Module) -> dict[str, float]:
    """Norm of the gradient of each term to all trainable parameters of ``network``; 0 for a term that reaches none.

    All, as a network of several branches has no layer that every tap depends on.
    """
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    norms = dict.fromkeys(terms, 0.0)
    for name, value in terms.items():
        if weights and value.requires_grad:
            found = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
            parts = [grad.float().norm() for grad in found if grad is not None]
            norms[name] = float(torch.stack(parts).norm()) if parts else 0.0
    return norms


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

    def losses(self, image: Tensor, label: Tensor, step: int, index: Tensor | None = None) -> dict[str, Tensor]:
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
