"""The end of an exported graph: labels in place of logits, with the strongest class taken at a chosen size.

Most networks end with a bilinear resize of coarse logits to the image's size. Taking the strongest class before that,
or part of the way, saves most of the resize's time: Fast-SCNN's last step makes 19 maps 64 times as large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

from segkd.deploy.graphs import attribute, constant, makers, note, prune, values_of
from segkd.deploy.runtimes import LABELS, OnnxRuntime
from segkd.errors import UserError, nearest
from segkd.files import replacing

#: where the strongest class is taken: at the image's size, the half or a quarter of it, or the logits' own
TAILS: Mapping[str, int | None] = {"full": 1, "half": 2, "quarter": 4, "native": None}
PREFIX = "tail_"  # of the names of all that is made here
CLOSE = 1e-4  # of the largest logit: classes that are so near each other are equally strong
MIN_AGREEMENT = 0.9999
_PASSED = ("Slice", "QuantizeLinear", "DequantizeLinear", "Identity")

Size = tuple[int, int]


@dataclass(frozen=True)
class End:
    """The end of a graph: from its last logits before a resize to those of the image's size.

    Attributes:
        native: name of the coarse logits; the graph's own output where none are resized.
        size: their (h, w).
        padded: (H, W) to which they are resized.
        crop: (H, W) of the image, the upper left part of it.
        corners: the resize keeps the corners (align_corners=True).
    """

    native: str
    size: Size
    padded: Size
    crop: Size
    corners: bool = False

    def target(self, tail: str) -> Size:
        """The (h, w) at which the strongest class is taken."""
        part = TAILS[tail]
        return self.size if part is None else (-(-self.padded[0] // part), -(-self.padded[1] // part))


def find_end(model: onnx.ModelProto) -> End:
    """The end of a graph that `export_onnx` or `quantize_onnx` wrote, with logits as its output."""
    made, output = makers(model), model.graph.output[0].name
    name = output
    while name in made and _is_passed(model, made[name]):
        name = made[name].input[0]
    node = made.get(name)
    if node is None or node.op_type != "Resize" or attribute(node, "mode") != b"linear":
        size = _sizes(model, [output])[output]
        return End(output, size, size, size)
    sizes = _sizes(model, [node.input[0], name, output])
    corners = attribute(node, "coordinate_transformation_mode") == b"align_corners"
    return End(node.input[0], sizes[node.input[0]], sizes[name], sizes[output], corners)


def _is_passed(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """True for what may stand between the last resize and the output: rounding, and a cut at the right and below."""
    if node.op_type != "Slice":
        return node.op_type in _PASSED
    starts = constant(model, node.input[1])
    return starts is not None and not starts.any()


def _sizes(model: onnx.ModelProto, names: list[str]) -> dict[str, Size]:
    return {name: (int(x.shape[2]), int(x.shape[3])) for name, x in values_of(model, names).items()}


def tails_of(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names in ``TAILS`` that differ for a graph of logits: "full" alone where its logits are made at full size."""
    end = find_end(model)
    coarser = [name for name in TAILS if name != "full" and min(*end.size) < min(*end.target(name))]
    return ("full", *coarser, *(["native"] if end.size != end.padded else []))


def make_labels(source: str | Path, target: str | Path, tail: str = "full") -> float:
    """Write a file of logits as one of labels: (N, H, W) uint8, of more than 256 classes int32.

    Args:
        source: float32 or int8 file that segkd wrote, for images of one size.
        target: the file of labels.
        tail: where the strongest class is taken (``TAILS``): the logits are resized bilinearly to that size, the
            classes from there on by nearest neighbour.

    Returns:
        The share of pixels at which the file's classes are those of the same computation in torch, on random images.

    Raises:
        UserError: an unknown tail, or one that this graph has not; a source that gives labels already.
    """
    if tail not in TAILS:
        raise UserError(f"there is no tail {tail!r}; {nearest(tail, TAILS)}")
    runtime = OnnxRuntime(source)
    if runtime.output == LABELS:
        raise UserError(f"{source} gives labels already; take the file of its logits")
    if runtime.size is None:
        raise UserError(f"{source} takes images of any size; labels are made by a file for one size")
    model = onnx.load(str(source))
    if tail not in (own := tails_of(model)):
        size = find_end(model).size
        raise UserError(
            f"{source} makes its logits at {size[0]}x{size[1]}, so that {tail!r} would not differ: choose among "
            f"{', '.join(own)}"
        )
    end = find_end(model)
    with replacing(target) as temporary:
        onnx.save_model(_with_labels(model, end, tail, runtime.num_classes), str(temporary))
        agreement = _agreement(runtime, OnnxRuntime(temporary), model, end, tail)
        if agreement < MIN_AGREEMENT:
            raise UserError(
                f"the labels of {source} with tail {tail!r} agree with torch's in {agreement:.6f} of the pixels only "
                f"(needed {MIN_AGREEMENT}); no file was written"
            )
    return agreement


def _with_labels(model: onnx.ModelProto, end: End, tail: str, num_classes: int) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph, target = changed.graph, end.target(tail)
    builder = _Builder(graph)
    name = end.native
    if end.size != target:
        mode = "align_corners" if end.corners else "half_pixel"
        name = builder.resize(name, target, mode="linear", coordinate_transformation_mode=mode)
    name = builder.add("ArgMax", [name], axis=1, keepdims=1, select_last_index=0)
    kind = TensorProto.UINT8 if num_classes <= 256 else TensorProto.INT32
    name = builder.add("Cast", [name], to=kind)
    if target != end.padded:
        name = builder.resize(name, end.padded, mode="nearest", nearest_mode="round_prefer_floor")
    if end.padded != end.crop:
        limits = [builder.constant(values) for values in ([0, 0], end.crop, [2, 3])]
        name = builder.add("Slice", [name, *limits])
    builder.add("Squeeze", [name, builder.constant([1])], output=LABELS)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(LABELS, kind, ["batch", *end.crop]))
    prune(changed)
    note(changed, {"output": LABELS, "tail": tail})
    return changed


class _Builder:
    """Appends nodes and constants to a graph, each under a name of its own."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph, self.count = graph, 0

    def _name(self, what: str) -> str:
        self.count += 1
        return f"{PREFIX}{what.lower()}_{self.count}"

    def add(self, op: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """The name of what the new node gives."""
        name = self._name(op)
        self.graph.node.append(helper.make_node(op, inputs, [output or f"{name}_out"], name=name, **attributes))
        return output or f"{name}_out"

    def constant(self, values: Any) -> str:
        """The name of a constant of integers."""
        name = self._name("constant")
        self.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def resize(self, name: str, size: Size, **attributes: Any) -> str:
        """The name of the maps resized to ``size``."""
        return self.add("Resize", [name, "", "", self.constant(size)], axes=[2, 3], **attributes)


def _agreement(logits: OnnxRuntime, labels: OnnxRuntime, model: onnx.ModelProto, end: End, tail: str) -> float:
    """The share of pixels of random images whose class is as torch takes it from the coarse logits."""
    from segkd.deploy.parity import random_images

    image = random_images(2, end.crop, 2, logits.channels)
    native = torch.from_numpy(values_of(model, [end.native], {"image": logits.to_input(image)})[end.native])
    strength = taken(native, end, tail)
    chosen = strength.gather(1, labels.labels(image)[:, None].long())[:, 0]
    same = strength.amax(1) - chosen <= CLOSE * float(strength.abs().max())
    return float(same.double().mean())


def taken(native: Tensor, end: End, tail: str) -> Tensor:
    """Coarse logits (N, K, h, w) -> the logits (N, K, H, W) by which each pixel's class is chosen, in torch."""
    x = F.interpolate(native.float(), size=end.target(tail), mode="bilinear", align_corners=end.corners)
    return F.interpolate(x, size=end.padded, mode="nearest-exact")[..., : end.crop[0], : end.crop[1]]
