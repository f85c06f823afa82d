"""What can be tapped: every layer of a network, with the channels and the stride of what it gives."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor, nn

from segkd.taps import Shapes, TapPath, eval_mode, tensors_in


class LayerInfo(NamedTuple):
    """One tensor that a tap can read.

    Attributes:
        path: the tap, ready to be used (with ``:item`` and ``#call`` where they are needed); "" is the network itself.
        type: class name of the layer.
        calls: how often the layer runs in one forward pass.
        channels: channels of the output; None for a tensor without any (fewer than 2 axes).
        stride: input height / output height, an integer (below 1, its inverse); None unless (N, C, H, W).
        shape: shape of the output.
    """

    path: str
    type: str
    calls: int
    channels: int | None
    stride: float | None
    shape: tuple[int, ...]


def describe_layers(model: nn.Module, x: Tensor) -> list[LayerInfo]:
    """Every tensor that a layer of ``model`` gives for the input ``x`` (N, 3, H, W), containers before their parts.

    Runs one forward pass in eval mode and without gradient; train flags and BatchNorm statistics are left as they were.
    A layer that does not run is not listed.
    """
    calls: dict[str, list[Shapes]] = {}
    handles = []
    try:
        for path, module in model.named_modules():
            handles.append(module.register_forward_hook(_recorder(calls.setdefault(path, []))))
        with eval_mode(model):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    types = {path: type(module).__name__ for path, module in model.named_modules()}
    return [info for path, seen in calls.items() for info in _infos(path, types[path], seen, x.shape[-2])]


def _recorder(seen: list[Shapes]) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        seen.append({key: tuple(tensor.shape) for key, tensor in tensors_in(output).items()})

    return hook


def _infos(path: str, kind: str, seen: list[Shapes], height: int) -> list[LayerInfo]:
    infos = []
    for call, shapes in enumerate(seen):
        for key, shape in shapes.items():
            name = TapPath(path, item=key or None, call=call if len(seen) > 1 else None)
            infos.append(LayerInfo(str(name), kind, len(seen), _channels(shape), _stride(height, shape), shape))
    return infos


def _channels(shape: tuple[int, ...]) -> int | None:
    """C of (N, C, ...); the last axis of tokens (N, L, C)."""
    if len(shape) < 2:
        return None
    return shape[-1] if len(shape) == 3 else shape[1]


def _stride(height: int, shape: tuple[int, ...]) -> float | None:
    """Input height / output height where the output is (N, C, H, W), freed from the rounding of odd sizes."""
    if len(shape) != 4 or shape[2] == 0:
        return None
    return _factor(height, shape[2]) if height >= shape[2] else 1 / _factor(shape[2], height)


def _factor(large: int, small: int) -> float:
    """A power of two where it explains the sizes (360 -> 12 rows is stride 32, rounded up, not 30), else the ratio."""
    power: int = 2 ** round(math.log2(large / small))
    return float(power if small in (large // power, -(-large // power)) else round(large / small))
