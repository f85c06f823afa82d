"""The config's section ``quantize``: quantization-aware training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segkd.errors import UserError, nearest
from segkd.training.section import Section, key
from segkd.training.values import folder, integer, one_of, pair

ROUTES = ("onnxruntime", "tensorrt")


def _trained_route(value: Any, name: str) -> str:
    """A check for a route whose rounding can be trained with."""
    if value == "openvino":
        raise UserError(
            f"{name}: NNCF rounds for openvino, and segkd cannot train with it; give onnxruntime, whose file OpenVINO "
            "runs, too (FILE.onnx@openvino)"
        )
    if value not in ROUTES:
        raise UserError(f"{name} {value!r} has no rounding to train with; {nearest(str(value), ROUTES)}")
    return str(value)


@dataclass(frozen=True)
class Quantize(Section):
    """Quantization-aware training: the student rounds as its int8 file will, while it learns."""

    name = "quantize"
    route: str = key("whose rounding: onnxruntime or tensorrt (see `segkd quantize --route`)", check=_trained_route)
    start: str | None = key(
        "run folder of the same model, whose student, heads and connectors it begins with as they were last; by "
        "default the student's own `weights`",
        None,
        check=folder,
    )
    images: int = key("calibration images, from the training split", 16, unit="images", check=integer(1))
    size: Sequence[int] | None = key(
        "(H, W) of the file in which the places to round are looked up; by default the training crop's",
        None,
        unit="pixels",
        check=pair(32),
    )
    ops: str | None = key("conv or all, as in `segkd quantize`", None, check=one_of("conv", "all"))
    method: str | None = key(
        "how ranges are chosen: percentile, minmax, moving_average or entropy",
        None,
        check=one_of("percentile", "minmax", "moving_average", "entropy"),
    )
    percentile: float | None = key("share of a value that its range keeps, in percent; 99.99 by default", None)
    weight_bits: int | None = key("7 or 8; of onnxruntime, 7 by default", None, check=integer(7, 8))

    def check(self, engine: Any) -> None:
        """A UserError for what an engine would round otherwise than an int8 file does."""
        if engine.precision not in ("auto", "fp32"):
            raise UserError(
                f"quantize needs engine.precision=fp32, not {engine.precision}, which rounds more coarsely than the "
                f"file (the teacher may have it: engine.teacher_precision={engine.precision})"
            )
        if engine.compile:
            raise UserError("quantize does not go with engine.compile: leave that out")
