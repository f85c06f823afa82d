"""The places of a network where an int8 file rounds, with their scales: a part of the network, in its state dict.

A value x is rounded to ``scale * (clip(round(x / scale) + zero_point, least, most) - zero_point)``, weights of each
output channel with zero point 0 and ``scale = max |w| / limit``. The gradient passes where nothing is clipped and is 0
elsewhere (the straight-through estimator), as in Jacob et al., Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference, CVPR 2018 (arXiv:1712.05877). Scales and zero points are frozen at what
calibration found: an int8 file has its operators share them, and weights learn to live with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segkd.fakequant.calls import Calls, function_of, items_of

#: first arguments of torch.nn.functional's conv2d, conv_transpose2d and linear, and all of batch_norm's
LAYER = ("input", "weight", "bias")
NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
WHOLE = -1
#: what a network calls this part
FAKE_QUANT = "fake_quant"
VALUE, WEIGHT, OPS = "value ", "weight ", "ops "  # before the call's name, in the names of buffers


class Range(NamedTuple):
    """How a value is rounded: ``least`` to ``most`` are the integers it may become."""

    scale: float
    zero_point: int
    least: int
    most: int


class Grid(NamedTuple):
    """How the weights and the bias of a layer are rounded.

    Attributes:
        axis: of the output channels in the weights; ``WHOLE``: one scale for all.
        limit: weights become integers of -limit to limit, with a scale for each channel.
        input_scale: of what the layer takes; a bias is a multiple of it and the weights' scale. 0: it stays float.
        result: the call that gives what the layer gives: its own, or that of a BatchNorm behind, which the file has
            within the layer.
    """

    axis: int
    limit: int
    input_scale: float
    result: str


class FakeQuant(nn.Module):
    """Rounds what calls give, and the weights that they take.

    Args:
        values: the name of a call (``segkd.fakequant.calls``) -> how what it gives is rounded.
        weights: the name of a call -> how its weights are rounded.
        ops: what the file rounds, "conv" or "all", kept for those who make it.
    """

    def __init__(self, values: Mapping[str, Range], weights: Mapping[str, Grid], ops: str = "all") -> None:
        super().__init__()
        self.values, self.weights, self.ops = dict(values), dict(weights), ops
        self.results = {grid.result: name for name, grid in weights.items()}
        self.register_buffer(f"{OPS}{ops}", torch.zeros(()))
        for name, value in values.items():
            self.register_buffer(_buffer(VALUE, name), torch.tensor(value, dtype=torch.float32))
        for name, grid in weights.items():
            content = torch.tensor(grid[:-1], dtype=torch.float32)
            self.register_buffer(_buffer(WEIGHT, f"{name} {grid.result}"), content)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> FakeQuant:
        """The part whose state dict is ``tensors``."""
        values: dict[str, Range] = {}
        weights: dict[str, Grid] = {}
        ops = "all"
        for key, tensor in tensors.items():
            kind, *names = key.replace("/", ".").split(" ")
            content = tensor.flatten().tolist()
            if kind == OPS.strip():
                ops = names[0]
            elif kind == VALUE.strip():
                values[names[0]] = Range(content[0], *map(int, content[1:]))
            else:
                weights[names[0]] = Grid(int(content[0]), int(content[1]), content[2], names[1])
        return cls(values, weights, ops)

    def forward(self, name: str, x: Tensor) -> Tensor:
        """What a call gave, (any shape), rounded as its place is; as it is where it has none."""
        if name not in self.values:
            return x
        place, content = self.values[name], self._buffers[_buffer(VALUE, name)]
        assert content is not None
        return torch.fake_quantize_per_tensor_affine(x, content[0], content[1].int(), place.least, place.most)

    def weight(self, name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of a call, rounded as its place is, and the scales of their channels."""
        grid = self.weights[name]
        others = [axis for axis in range(weight.dim()) if axis != grid.axis]
        largest = weight.detach().abs().amax(others)
        scale = torch.where(largest > 0, largest / grid.limit, 1.0)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        if grid.axis == WHOLE:
            return torch.fake_quantize_per_tensor_affine(weight, scale, zero, -grid.limit, grid.limit), scale
        rounded = torch.fake_quantize_per_channel_affine(weight, scale, zero, grid.axis, -grid.limit, grid.limit)
        return rounded, scale

    def around(self, network: nn.Module) -> AbstractContextManager[None]:
        """What ``network`` computes is rounded inside of the ``with``; its input is not."""
        return Rounding(self).around(network)


def _buffer(kind: str, name: str) -> str:
    return f"{kind}{name.replace('.', '/')}"  # torch takes no dots in a buffer's name


class Rounding(Calls):
    """Makes calls, and rounds what they take and give where ``places`` says so."""

    def __init__(self, places: FakeQuant) -> None:
        super().__init__()
        self.places = places
        self.layers: dict[str, _Layer] = {}  # whose weights were rounded, by their calls

    def call(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        places = self.places
        if name in places.weights and function_of(name) == "batch_norm":
            args, kwargs = self._norm(name, args, kwargs)
        elif name in places.weights:
            given = {**dict(zip(LAYER, args, strict=False)), **kwargs}
            given["weight"], scale = places.weight(name, given["weight"])
            self.layers[name] = _Layer(scale * places.weights[name].input_scale, given.get("bias"))
            args, kwargs = args[len(LAYER) :], given
            args = (given.pop("input"), given.pop("weight"), given.pop("bias", None), *args)
        given = func(*args, **kwargs)
        if isinstance(given, tuple | list):
            rounded = {item: self.rounded(item, x) for item, x in items_of(name, given) if item in places.values}
            return type(given)(rounded.get(f"{name}:{i}", value) for i, value in enumerate(given)) if rounded else given
        if name in places.results and places.results[name] in self.layers:
            given = given + self.layers[places.results[name]].correction(name, args, kwargs)
        return self.rounded(name, given) if name in places.values else given

    def rounded(self, name: str, x: Tensor) -> Tensor:
        """What a call gave, as it is passed on."""
        found: Tensor = self.places(name, x)
        return found

    def _norm(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a BatchNorm that is not part of a convolution, its factors and shifts rounded."""
        given = {**dict(zip(NORM, args, strict=False)), **kwargs}
        given["weight"], scale = self.places.weight(name, given["weight"])
        unit, shift = scale * self.places.weights[name].input_scale, given["bias"]
        if unit > 0:
            given["bias"] = shift + ((shift / unit).round() * unit - shift).detach()
        return (), given


class _Layer(NamedTuple):
    """A layer whose weights were rounded.

    Attributes:
        unit: of its bias, for each channel; 0 where that stays float.
        bias: as it is.
    """

    unit: Tensor
    bias: Tensor | None

    @torch.no_grad()
    def correction(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | float:
        """What rounding the bias, with a BatchNorm's in it, adds to the channels of what a call of that name gives."""
        unit, bias = self.unit, self.bias
        if function_of(name) == "batch_norm":
            given = {**dict(zip(NORM, args, strict=False)), **kwargs}
            scale, shift = (given.get(key) for key in ("weight", "bias"))
            factor = (given["running_var"] + given["eps"]).rsqrt() * (1 if scale is None else scale)
            bias = (0 if shift is None else shift) + factor * ((0 if bias is None else bias) - given["running_mean"])
            unit = unit * factor.abs()
        if bias is None:
            return 0.0
        exact = torch.where(unit > 0, (bias / unit).round() * unit, bias)
        behind = 0 if function_of(name) == "linear" else args[0].dim() - 2
        return (exact - bias).view(-1, *[1] * behind)


def attach(network: nn.Module, places: FakeQuant) -> None:
    """Let ``network`` (a ``segkd.models.Network``) round; from now on it is in eval mode, as an int8 file is."""
    tensor = next(network.parameters())
    network.add_module(FAKE_QUANT, places.to(tensor.device))
    network.eval()


def detach(network: nn.Module) -> FakeQuant | None:
    """Take the rounding out of ``network``, and give it back; None if it has none."""
    places: FakeQuant | None = network._modules.pop(FAKE_QUANT, None)  # type: ignore[assignment]
    return places


def split_tensors(tensors: Mapping[str, Tensor], prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A state dict as that of the network alone, and of its rounding (without the name of that part)."""
    own = f"{prefix}{FAKE_QUANT}."
    rounding = {key.removeprefix(own): value for key, value in tensors.items() if key.startswith(own)}
    return {key: value for key, value in tensors.items() if not key.startswith(own)}, rounding
