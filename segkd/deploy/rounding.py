"""Better rounding of an int8 file's weights, layer by layer: AdaRound, and bias correction.

AdaRound: Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020 (arXiv:2004.10568): each
weight is rounded up or down so that the layer's output, of its rounded input, is as near as possible to that of the
float network. For a convolution that is a quadratic form of the weights, whose matrices are means over the calibration
images; so the optimisation needs no data of its own. Bias correction (Nagel et al., ICCV 2019, section 4.2): what is
left of a mean difference of a channel is added to its bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional as F

from segkd.deploy.graphs import Value, attribute, makers, open_watched, prune, rounded_layers

POSITIONS = 1024  # of a layer's output, drawn from each image
STEPS = 200
ZETA, GAMMA = 1.1, -0.1  # the stretch of the rectified sigmoid (AdaRound's equation 23)
WARM = 0.2  # share of the steps without the term that pushes towards up or down
BETAS = (20.0, 2.0)


@dataclass(frozen=True)
class Rounder:
    """What is done to each layer.

    Attributes:
        weights: choose up or down for each weight.
        bias: correct the mean of each channel.
        steps: of the optimisation.
        regularization: weight of the term that makes each choice one of the two, relative to the loss of rounding to
            nearest.
    """

    weights: bool = True
    bias: bool = True
    steps: int = STEPS
    regularization: float = 0.02


class Moments(NamedTuple):
    """Means over positions of a layer's input, for each of its G groups, as rows of D = channels x kernel.

    Attributes:
        square: (G, D, D), of x^ x^T, x^ being the rounded network's input.
        cross: (G, D, D), of x^ x^T, x being the float network's.
        rounded, exact: (G, D), of both.
    """

    square: Tensor
    cross: Tensor
    rounded: Tensor
    exact: Tensor


def improve_rounding(
    floats: onnx.ModelProto,
    rounded: onnx.ModelProto,
    fed: Sequence[Value],
    rounder: Rounder,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> int:
    """Change the weights and biases of an int8 graph, in place, layer after layer; the number of layers.

    Args:
        floats: the float graph of which it was made, with the same names.
        rounded: the graph with Q/DQ; its scales and zero points stay.
        fed: what both are fed, an array (1, 3, H, W) for each calibration image.
    """
    exact = {node.name: node for node in floats.graph.node}
    layers = [node for node in rounded_layers(rounded) if node.op_type == "Conv" and node.name in exact]
    stored = {item.name: item for item in rounded.graph.initializer}
    for number, node in enumerate(layers):
        there = exact[node.name]
        layer = _Layer(node, rounded, stored, _constant(floats, there.input[1]))
        moments = layer.moments(_inputs(floats, there.input[0], fed), _inputs(rounded, node.input[0], fed))
        weight = layer.choose(moments, rounder) if rounder.weights else layer.near
        if rounder.bias:
            layer.correct(moments, weight, _bias(floats, there))
        progress(number + 1, len(layers))
    return len(layers)


def _constant(model: onnx.ModelProto, name: str) -> Tensor:
    (item,) = (item for item in model.graph.initializer if item.name == name)
    return torch.from_numpy(numpy_helper.to_array(item).astype(np.float32))


def _bias(model: onnx.ModelProto, node: onnx.NodeProto) -> Tensor | None:
    return _constant(model, node.input[2]) if len(node.input) > 2 else None


def _inputs(model: onnx.ModelProto, name: str, fed: Sequence[Value]) -> Iterator[Tensor]:
    """The values of that name for each image, (1, C, H, W)."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.output[:]
    part.graph.output.append(onnx.ValueInfoProto(name=name))
    prune(part)  # what comes after it need not run
    session = open_watched(part, [name], threads=2)
    for value in fed:
        yield torch.from_numpy(session.run([name], {"image": value})[0]).float()


class _Layer:
    """A convolution of the int8 graph: its stored weights, scales and limits."""

    def __init__(
        self, node: onnx.NodeProto, model: onnx.ModelProto, stored: dict[str, onnx.TensorProto], exact: Tensor
    ) -> None:
        made = makers(model)
        self.node, self.stored = node, stored
        self.weights, scale, zero = made[node.input[1]].input
        self.integers = torch.from_numpy(numpy_helper.to_array(stored[self.weights]).astype(np.float32))
        self.scale = torch.tensor(numpy_helper.to_array(stored[scale])).float().reshape(-1, 1)
        assert not numpy_helper.to_array(stored[zero]).any()
        limit = 64 if float(self.integers.abs().max()) <= 64 else 128  # 7 or 8 bits
        self.least, self.most = -limit, limit - 1
        self.bias = made[node.input[2]] if len(node.input) > 2 and node.input[2] in made else None
        self.bias_name = node.input[2] if len(node.input) > 2 else None
        self.shape = self.integers.shape
        self.groups = attribute(node, "group") or 1
        self.exact = exact.flatten(1)

    @property
    def near(self) -> Tensor:
        """The weights (O, D) as they are stored."""
        return self.integers.flatten(1) * self.scale

    def moments(self, exact: Iterator[Tensor], rounded: Iterator[Tensor]) -> Moments:
        """Means over drawn positions of all images."""
        generator = torch.Generator().manual_seed(0)
        sums: list[Tensor] = []
        count = 0
        for x, near in zip(exact, rounded, strict=True):
            columns = [self._columns(value) for value in (x, near)]
            places = torch.randperm(columns[0].shape[2], generator=generator)[:POSITIONS]
            one, other = (value[:, :, places] for value in columns)  # (G, D, P)
            parts = [other @ other.mT, other @ one.mT, other.sum(2), one.sum(2)]
            sums = parts if not sums else [total + part for total, part in zip(sums, parts, strict=True)]
            count += len(places)
        return Moments(*(total / count for total in sums))

    def _columns(self, x: Tensor) -> Tensor:
        """What each position of the output is computed of: (1, C, H, W) -> (G, D, positions)."""
        pads = attribute(self.node, "pads") or [0, 0, 0, 0]
        padded = F.pad(x, (pads[1], pads[3], pads[0], pads[2]))
        strides, dilations = (attribute(self.node, name) or [1, 1] for name in ("strides", "dilations"))
        columns = F.unfold(padded, self.shape[2:], dilation=tuple(dilations), stride=tuple(strides))[0]
        return columns.reshape(self.groups, -1, columns.shape[-1])

    def choose(self, moments: Moments, rounder: Rounder) -> Tensor:
        """The weights (O, D), each rounded up or down by AdaRound, and stored; nearest where that is no worse."""
        grid = self.exact / self.scale
        floor = grid.floor()
        target, scale = self._grouped(self.exact), self._grouped(self.scale.expand_as(grid))

        wanted = torch.einsum("gde,goe->god", moments.cross, target)

        def loss(weight: Tensor) -> Tensor:
            """Of each output channel, up to a constant: E (w x - w^ x^)^2."""
            return (weight * (weight @ moments.square - 2 * wanted)).sum(-1)

        nearest = self._grouped(self.near)
        before, error = loss(nearest), nearest - target
        base = (error * (error @ moments.square)).sum(-1).mean().clamp_min(1e-12)
        rest = self._grouped((grid - floor).clamp(0.01, 0.99))
        alpha = torch.logit((rest - GAMMA) / (ZETA - GAMMA)).requires_grad_()
        low = self._grouped(floor)
        optimizer = torch.optim.Adam([alpha], lr=0.04)
        for step in range(rounder.steps):
            up = (torch.sigmoid(alpha) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
            weight = (low + up).clamp(self.least, self.most) * scale
            slope = 2 * (
                weight.detach() @ moments.square - wanted
            )  # of the loss: one product, where autograd takes two
            total = (weight * slope).sum(-1).mean() / base
            share = step / rounder.steps
            if share > WARM:
                beta = BETAS[1] + (BETAS[0] - BETAS[1]) * (1 - (share - WARM) / (1 - WARM))
                total = total + rounder.regularization * (1 - (2 * up - 1).abs() ** beta).sum() / up.shape[1]
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        chosen = (low + (alpha.detach() >= 0).float()).clamp(self.least, self.most)
        better = (loss(chosen * scale) < before)[..., None]
        integers = torch.where(better, chosen, self._grouped(self.integers.flatten(1))).flatten(0, 1)
        self._store(self.weights, integers.reshape(self.shape).to(torch.int8).numpy())
        return integers * self.scale

    def _grouped(self, x: Tensor) -> Tensor:
        """(O, D) -> (G, O / G, D)."""
        return x.reshape(self.groups, -1, x.shape[1])

    def correct(self, moments: Moments, weight: Tensor, bias: Tensor | None) -> None:
        """Set the bias so that each channel has the float network's mean."""
        if self.bias_name is None:
            return
        wanted = torch.einsum("god,gd->go", self._grouped(self.exact), moments.exact)
        got = torch.einsum("god,gd->go", self._grouped(weight), moments.rounded)
        corrected = (wanted - got).flatten() + (0 if bias is None else bias)
        if self.bias is None:  # a float one
            self._store(self.bias_name, corrected.numpy().astype(np.float32))
            return
        name, scale = self.bias.input[0], numpy_helper.to_array(self.stored[self.bias.input[1]])
        limits = np.iinfo(np.int32)
        integers = (corrected.double().numpy() / scale).round().clip(limits.min, limits.max)
        self._store(name, integers.astype(np.int32))

    def _store(self, name: str, value: Value) -> None:
        self.stored[name].CopyFrom(numpy_helper.from_array(value, name))
