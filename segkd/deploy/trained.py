"""The rounding that a network was trained with, in the float32 file that is made of it: what its int8 file then has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import Tensor, nn

from segkd.deploy.graphs import Value
from segkd.deploy.report import QuantizeError
from segkd.deploy.runtimes import METADATA_KEY, TENSORRT
from segkd.deploy.values import record_calls, rounded_in, samples_of
from segkd.fakequant import FakeQuant, Range

KEY = "trained"  # in a file's metadata
UNSIGNED = 255


@dataclass(frozen=True)
class Trained:
    """What a float32 file says of the rounding that its network was trained with.

    Attributes:
        route: for which file.
        ops: what that file rounds, "conv" or "all".
        weight_bits: 7 or 8.
        ranges: the name of a value -> how it is rounded.
    """

    route: str
    ops: str
    weight_bits: int
    ranges: Mapping[str, Range]

    def as_dict(self) -> dict[str, Any]:
        """What the file's metadata hold; scales as they print, which gives the same float32 again."""
        ranges = {name: [*value] for name, value in self.ranges.items()}
        return {"route": self.route, "ops": self.ops, "weight_bits": self.weight_bits, "ranges": ranges}

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Trained | None:
        """What a file's metadata say; None of a network that was trained in float."""
        given = metadata.get(KEY)
        if given is None:
            return None
        ranges = {name: Range(*value) for name, value in given["ranges"].items()}
        return cls(given["route"], given["ops"], given["weight_bits"], ranges)

    @classmethod
    def read(cls, source: str | Path) -> Trained | None:
        """What a file says."""
        metadata = {item.key: item.value for item in onnx.load(str(source)).metadata_props}
        return cls.of(json.loads(metadata.get(METADATA_KEY, "{}")))


def trained_in(network: nn.Module, places: FakeQuant, model: onnx.ModelProto, image: Tensor, fed: Value) -> Trained:
    """The places of a network by the names that its values have in a float32 graph made of it.

    Args:
        network: in eval mode, without its rounding.
        places: its rounding.
        model: the graph.
        image: (N, 3, H, W) uint8 of the file's size; what is equal in both for it is the same value.
        fed: what the graph is fed for it.
    """
    calls = record_calls(network, image)
    samples = samples_of(model, [name for node in model.graph.node for name in node.output if name], fed)
    ranges: dict[str, Range] = {}
    for call, own in calls.samples.items():  # in the order of the calls, which is the graph's
        if call in places.values:
            names = [name for name, sample in samples.items() if own.equals(sample)]
            free = [name for name in names if name not in ranges]
            ranges |= dict.fromkeys(free[:1] if len(calls.find(own)) > 1 else free, places.values[call])
    limits = {grid.limit for grid in places.weights.values()}
    route = "onnxruntime" if any(value.most == UNSIGNED for value in places.values.values()) else TENSORRT
    return Trained(route, places.ops, 7 if limits == {64} else 8, ranges)


def overrides(ranges: Mapping[str, Range], model: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    """ONNX Runtime's ``TensorQuantOverrides``: these scales and zero points for the values that the graph has."""
    known = {name for node in model.graph.node for name in node.output}
    return {
        name: [
            {
                "scale": np.array(value.scale, np.float32),
                "zero_point": np.array(value.zero_point, np.uint8 if value.most == UNSIGNED else np.int8),
            }
        ]
        for name, value in ranges.items()
        if name in known
    }


def check_trained(model: onnx.ModelProto, ranges: Mapping[str, Range], source: str | Path) -> None:
    """A QuantizeError unless an int8 graph rounds every value as it was trained."""
    for name, value in rounded_in(model).values.items():
        if name not in ranges:
            raise QuantizeError(
                f"{source}: the file rounds {name}, which the student was not trained with: train with quantize.size "
                "of the file's size, or export for the size it was trained with"
            )
        if value != ranges[name]:
            raise QuantizeError(f"{source}: ONNX Runtime rounds {name} as {value}, not as trained, {ranges[name]}")
