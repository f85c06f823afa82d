"""Where the maps of a model of transformers can be tapped: by running it once and looking for the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

#: modules that take the backbone's maps, or give them, where no output of the model itself has them
TAKERS = ("decode_head", "segmentation_head", "reassemble_stage")


class Call(NamedTuple):
    """What went in and out of a layer."""

    inputs: list[Any]
    output: Any


class Watched(NamedTuple):
    """The calls of every layer in one pass.

    Attributes:
        network: whose layers they are.
        calls: path -> its calls, paths in the order in which they first finished.
    """

    network: nn.Module
    calls: Mapping[str, list[Call]]

    def once(self) -> Iterable[tuple[str, Call]]:
        """The layers that ran once."""
        return ((path, calls[0]) for path, calls in self.calls.items() if path and len(calls) == 1)

    def classifier(self, num_classes: int) -> tuple[str, Tensor] | None:
        """The convolution that last gave a map of one channel a class, and that map."""
        found = None
        for path, call in self.once():
            layer = self.network.get_submodule(path)
            if isinstance(layer, nn.Conv2d) and layer.out_channels == num_classes and is_map(call.output):
                found = path, call.output
        return found

    def stages(self) -> list[tuple[str, Tensor]]:
        """Taps of the backbone's maps, the last of each size, finest first; [] where it has tokens alone."""
        last = {tuple(m.shape[-2:]): m for m in self.backbone_maps()}
        found = [(path, m) for m in last.values() if (path := self.tap(m)) is not None]
        return sorted(found, key=lambda pair: -pair[1].shape[-2])

    def backbone_maps(self) -> list[Tensor]:
        """The backbone's 4-D maps: of a backbone's own output, else of the hidden states, else what the head takes."""
        outputs = [call.output for _, call in self.once()]
        for source in (
            *(getattr(output, "feature_maps", None) for output in outputs),
            *(getattr(output, "hidden_states", None) for output in outputs),
            *(x for path, call in self.once() if path.endswith(TAKERS[:2]) for x in call.inputs),
            *(call.output for path, call in self.once() if path.endswith(TAKERS[2:])),
        ):
            if isinstance(source, list | tuple) and len(source) > 1 and all(map(is_map, source)):
                return list(source)
        return []

    def tap(self, tensor: Tensor) -> str | None:
        """A tap that reads ``tensor``: a layer's output, one of several, or what a layer takes."""
        outputs = [path for path, call in self.once() if call.output is tensor]
        if outputs:
            depth = min(path.count(".") for path in outputs)
            return [path for path in outputs if path.count(".") == depth][-1]
        for path, call in self.once():
            if len(call.inputs) == 1 and call.inputs[0] is tensor:
                return f"{path}@input"
            for things, end in ((call.output, ""), (call.inputs[0] if len(call.inputs) == 1 else (), "@input")):
                if isinstance(things, list | tuple):
                    for i, thing in enumerate(things):
                        if thing is tensor:
                            return f"{path}:{i}{end}"
        return None


def is_map(value: object) -> bool:
    """True for a tensor (N, C, H, W)."""
    return isinstance(value, Tensor) and value.dim() == 4


def watch(network: nn.Module, size: tuple[int, int], run: Callable[[Tensor], Tensor]) -> Watched:
    """Every layer's calls while ``run`` takes one black image of ``size`` (H, W)."""
    calls: dict[str, list[Call]] = {}

    def recorder(path: str) -> Any:
        def record(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            calls.setdefault(path, []).append(Call([*args, *kwargs.values()], output))

        return record

    hooks = [module.register_forward_hook(recorder(path), with_kwargs=True) for path, module in network.named_modules()]
    try:
        run(torch.zeros(1, 3, *size))
    finally:
        for hook in hooks:
            hook.remove()
    return Watched(network, calls)
