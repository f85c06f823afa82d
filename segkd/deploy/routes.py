"""The ways to an int8 file, by what runs it: `segkd quantize --route`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.quantize_openvino import quantize_openvino
from segkd.deploy.report import Images, QuantizeReport
from segkd.deploy.runtimes import TENSORRT
from segkd.deploy.tensorrt import quantize_tensorrt
from segkd.deploy.trained import Trained
from segkd.errors import UserError, nearest
from segkd.fakequant import Range

WEIGHT_BITS = (7, 8)
EXECUTORCH = "executorch"  # made of a network, not of an ONNX file: `segkd.deploy.quantize_executorch`


@dataclass(frozen=True)
class Choices:
    """What can be chosen of a quantisation; None is the route's own.

    Attributes:
        op_types, method, percentile: see `segkd.deploy.quantize.quantize_onnx`.
        preset: see `segkd.deploy.quantize_openvino.quantize_openvino`.
        weight_bits: 7, right on every CPU, or 8, for those whose int8 sums do not saturate (x64 with VNNI, Arm).
        keep_float: names of nodes that stay float.
        improve: of "equalize", "bias", "adaround", what is done for accuracy; not of "openvino".
    """

    op_types: str | Sequence[str] | None = None
    method: str | None = None
    percentile: float | None = None
    preset: str | None = None
    weight_bits: int | None = None
    keep_float: Sequence[str] = ()
    improve: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.weight_bits not in (None, *WEIGHT_BITS):
            raise UserError(f"weights have 7 or 8 bits, not {self.weight_bits!r}")

    def of(self, *names: str) -> dict[str, Any]:
        """The choices of the names that are given; another one that is given is a UserError."""
        given = {name: value for name, value in vars(self).items() if value not in (None, ())}
        if other := [name for name in given if name not in names]:
            raise UserError(f"{other[0]} is not for this route; it takes {', '.join(names)}")
        return given


def trained_choices(source: str | Path, route: str, choices: Choices) -> tuple[Choices, Mapping[str, Range] | None]:
    """The choices for a file as its network was trained, and its ranges; as they are, and None, if it was not.

    Raises:
        UserError: trained for another route, or choices that would make another file than it was trained as.
    """
    trained = Trained.read(source)
    if trained is None:
        return choices, None
    if route != trained.route:
        hint = "; OpenVINO runs that file as FILE@openvino" if route == "openvino" else ""
        raise UserError(f"the student of {source} was trained for --route {trained.route}, not {route}{hint}")
    for name, allowed in (("op_types", trained.ops), ("weight_bits", trained.weight_bits)):
        if getattr(choices, name) not in (None, allowed):
            raise UserError(f"the student of {source} was trained with {name} {allowed}: leave out {name}")
    for name in ("method", "percentile", "keep_float", "improve"):
        if getattr(choices, name):
            raise UserError(f"the student of {source} was trained with its ranges: leave out {name}")
    bits = None if route == TENSORRT else trained.weight_bits
    return replace(choices, op_types=trained.ops, weight_bits=bits), trained.ranges


Quantize = Callable[[str | Path, str | Path, Iterable[Images], Choices, int, int], QuantizeReport]


class Route(NamedTuple):
    """A way to an int8 file: the end of its name, and what makes it of (source, target, images, choices, at most how
    many images, threads)."""

    ending: str
    quantize: Quantize


def _onnxruntime(
    source: str | Path, target: str | Path, images: Iterable[Images], choices: Choices, count: int, threads: int
) -> QuantizeReport:
    choices, ranges = trained_choices(source, "onnxruntime", choices)
    given = {"op_types": "all"} | choices.of("op_types", "method", "percentile", "weight_bits", "keep_float", "improve")
    given |= {"reduce_range": given.pop("weight_bits", 7) == 7, "ranges": ranges}
    return quantize_onnx(source, target, images, max_images=count, threads=threads, **given)


def _tensorrt(
    source: str | Path, target: str | Path, images: Iterable[Images], choices: Choices, count: int, threads: int
) -> QuantizeReport:
    choices, ranges = trained_choices(source, TENSORRT, choices)
    given = choices.of("op_types", "method", "percentile", "keep_float", "improve") | {"ranges": ranges}
    return quantize_tensorrt(source, target, images, max_images=count, threads=threads, **given)


def _openvino(
    source: str | Path, target: str | Path, images: Iterable[Images], choices: Choices, count: int, threads: int
) -> QuantizeReport:
    given = choices.of("preset", "weight_bits", "keep_float")
    return quantize_openvino(source, target, images, max_images=count, threads=threads, **given)


ROUTES: Mapping[str, Route] = {
    "onnxruntime": Route("_int8.onnx", _onnxruntime),
    "openvino": Route("_int8.xml", _openvino),
    "tensorrt": Route("_tensorrt.onnx", _tensorrt),
}


def find_route(name: str) -> Route:
    """The route of a name; an unknown one is a UserError."""
    if name not in ROUTES:
        raise UserError(f"unknown route {name!r}; {nearest(name, [*ROUTES, EXECUTORCH])}")
    return ROUTES[name]
