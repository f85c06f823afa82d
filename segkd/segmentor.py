"""A network trained alone: network + supervision. Teachers and baselines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segkd.models import NETWORKS, Network
from segkd.registry import Described
from segkd.supervision import Supervision
from segkd.taps import CompiledForward, tap

PROBE_SIZE = (96, 128)


class GradientNorms(NamedTuple):
    """Norms of the gradients of named terms, in one step.

    network: of each term, to all trainable parameters of the network; 0 for a term that reaches none.
    layer: path of the shared layer, the last convolution or linear layer to run of those that every term reaches, but
        for terms that reach none at all. None if there is none: two branches may meet nowhere before the loss.
    shared: of each term, to that layer's parameters. All terms pull at the same weights there.
    """

    network: Mapping[str, float]
    layer: str | None
    shared: Mapping[str, float]


class TrainingModel(Described, nn.Module):
    """What a training loop trains: its forward pass gives named loss terms, every one of which counts.

    Subclasses hold the trained network under ``student`` and define ``losses``.
    """

    student: Network
    #: number of the current training step, and the run's seed; both set by the training loop, for losses that draw
    step: int = 0
    seed: int = 0
    #: set by the training loop for a step: fill ``gradient_norms``, at the price of one more backward pass per term
    watch_gradients: bool = False
    #: run networks through ``torch.compile``; the losses stay as they are
    compiled: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._forwards: dict[tuple[int | str, ...], CompiledForward] = {}
        #: of the last step that was watched
        self.gradient_norms = GradientNorms({}, None, {})

    def losses(self, image: Tensor, label: Tensor, step: int, index: Tensor | None = None) -> dict[str, Tensor]:
        """image (N, 3, H, W) uint8 RGB, label (N, H, W) int64 -> named, weighted scalars whose sum is minimised.

        ``index`` (N,) are the samples' numbers in the data set, for losses that remember or draw by sample. Where a run
        has images without labels, a model also gets ``labelled`` (N,), true for those that come first; and where the
        teachers see other than the crops, what they see (``Distiller.losses``).
        """
        raise TypeError(f"{type(self).__name__} defines no losses")

    def run(self, network: Network, taps: Sequence[str], image: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The logits of a network for an image (N, 3, H, W) uint8, and what ``taps`` read on the way."""
        if not self.compiled or self.watch_gradients:
            with tap(network, taps) as features:
                return network.predict(image), features
        key: tuple[int | str, ...] = (id(network), *taps)
        if key not in self._forwards:
            self._forwards[key] = CompiledForward(network, network.predict, taps)
        return self._forwards[key](image)

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

    def critic_losses(self) -> dict[str, Tensor]:
        """What the optimiser of the critics minimises after the student's step, on the features of the last forward."""
        return {}

    def forward(
        self,
        image: Tensor,
        label: Tensor | None = None,
        index: Tensor | None = None,
        labelled: Tensor | None = None,
        **views: Tensor,
    ) -> Any:
        """The terms of a training step, whose sum is minimised; without a label, the logits (N, K, H, W)."""
        if label is None:
            return self.student.predict(image)
        also = views if labelled is None else {**views, "labelled": labelled}
        if not self.watch_gradients:
            return self.losses(image, label, self.step, index, **also)
        with layers_run(self.student) as ran:
            terms = self.losses(image, label, self.step, index, **also)
        self.gradient_norms = gradient_norms(terms, self.student, ran)
        return terms


@contextmanager
def layers_run(network: nn.Module) -> Iterator[list[str]]:
    """A list that fills, inside the ``with``, with the paths of the layers that run, in that order."""
    ran: list[str] = []
    with ExitStack() as stack:
        for path, module in network.named_modules():
            if next(module.parameters(recurse=False), None) is not None:
                handle = module.register_forward_hook(lambda *_, path=path: ran.append(path))
                stack.callback(handle.remove)
        yield ran


def gradient_norms(terms: Mapping[str, Tensor], network: nn.Module, ran: Sequence[str]) -> GradientNorms:
    """Norm of the gradient of each term (a scalar) to the trainable parameters of ``network``.

    To all of them, as a network of several branches may have no layer that every term depends on, and to those of the
    deepest layer that has it, where the terms can be compared.

    Args:
        terms: scalars, with their graphs; those are kept.
        network: that made them.
        ran: paths of its layers in the order in which they ran, as from ``layers_run``.
    """
    weights = {path: weight for path, weight in network.named_parameters() if weight.requires_grad}
    norms: dict[str, dict[str, Tensor]] = {}  # of each term, by the paths of what it reaches
    for name, value in terms.items():
        norms[name] = {}
        if weights and value.requires_grad:
            grads = torch.autograd.grad(value, list(weights.values()), retain_graph=True, allow_unused=True)
            found = zip(weights, grads, strict=True)
            norms[name] = {path: grad.float().norm() for path, grad in found if grad is not None}
    reached = [found for found in norms.values() if found]
    common = {_layer(path) for path, weight in weights.items() if weight.dim() > 1 and all(path in r for r in reached)}
    layer = next((path for path in reversed(ran) if reached and path in common), None)
    at_layer = {name: [v for k, v in found.items() if _layer(k) == layer] for name, found in norms.items()}
    return GradientNorms(
        network={name: _norm(found.values()) for name, found in norms.items()},
        layer=layer,
        shared={} if layer is None else {name: _norm(found) for name, found in at_layer.items()},
    )


def _layer(path: str) -> str:
    """Path of the layer that owns a parameter."""
    return path.rpartition(".")[0]


def _norm(parts: Iterable[Tensor]) -> float:
    """Norm of a whole from the norms of its parts; 0 without any."""
    listed = list(parts)
    return float(torch.stack(listed).norm()) if listed else 0.0


class Segmentor(TrainingModel):
    """A network under label supervision alone.

    Args:
        network: config of a network, or a Network.
        supervision: ``{name: dict(tap=..., head=..., loss=..., weight=...)}``, see ``segkd.supervision.Supervision``;
            default cross entropy on the logits.
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
        logits, features = self.run(self.student, self.supervision.paths, image)
        terms: dict[str, Tensor] = self.supervision(logits, features, label)
        return terms


def probe_input(network: Network, size: Sequence[int]) -> Tensor:
    """A grey image (1, C, H, W) through the network's own preprocessing."""
    tensor = next(chain(network.parameters(), network.buffers()))  # an ONNX file has no parameters
    image = torch.full((1, network.channels, *size), 128, dtype=torch.uint8, device=tensor.device)
    probe: Tensor = network.preprocess(image)
    return probe
