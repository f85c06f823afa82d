"""What quantising a file brought: sizes, agreement with the float file, operations in int8; for every route."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkd.deploy.runtimes import LABELS, Runtime
from segkd.errors import UserError

Images = Tensor | NDArray[np.uint8]
COMPARED_IMAGES = 8


class QuantizeError(UserError):
    """The file cannot be quantised."""


@dataclass(frozen=True)
class QuantizeReport:
    """What was written.

    Attributes:
        route: for what the file is ("onnxruntime", "openvino", "tensorrt").
        float_bytes, int8_bytes: file sizes.
        images: calibration images used.
        sqnr_db: signal to quantisation noise of the logits, 10 log10(sum float^2 / sum (float - int8)^2), in dB (None
            for files of labels), and
        argmax_agreement: share of pixels of equal class; both on the first calibration images.
        int8_ops, float_ops: nodes that compute in int8, and convolutions or products left in float; "onnxruntime" and
            "openvino": in the graph as it runs here, "tensorrt": as the file asks for it.
        ops: all nodes of that graph by operator.
    """

    path: str
    method: str
    op_types: str
    float_bytes: int
    int8_bytes: int
    images: int
    sqnr_db: float | None
    argmax_agreement: float
    int8_ops: int
    float_ops: int
    ops: dict[str, int]
    route: str = "onnxruntime"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def take_images(calibration: Iterable[Images], limit: int, runtime: Runtime, source: object) -> list[Tensor]:
    """The first ``limit`` images, each (1, C, H, W) uint8, of the size that ``runtime``, made of ``source``, takes."""
    singles = (torch.as_tensor(image)[None].contiguous() for batch in calibration for image in batch)
    images = list(itertools.islice(singles, limit))
    if not images:
        raise UserError("quantisation needs calibration images; there is none")
    for image in images:
        size = runtime.size or tuple(image.shape[2:])
        if image.dtype != torch.uint8 or image.shape[1:] != (runtime.channels, *size):
            raise UserError(
                f"calibration images must be uint8 of {(runtime.channels, *size)}, as {source} takes them; "
                f"got {image.dtype} of {tuple(image.shape[1:])}"
            )
    return images


def digest(images: Sequence[Tensor]) -> str:
    """The SHA-256 of calibration images, by which a file says what it was calibrated on."""
    total = hashlib.sha256()
    for image in images:
        total.update(repr(tuple(image.shape)).encode())
        total.update(image.contiguous().numpy().tobytes())
    return total.hexdigest()


def compare(reference: Runtime, int8: Runtime, images: Sequence[Tensor]) -> tuple[float | None, float]:
    """SQNR (dB) of the logits, None for labels, and share of equal classes, over the first images."""
    signal = noise = same = pixels = 0.0
    labels_alone = LABELS in (reference.output, int8.output)
    for image in images[:COMPARED_IMAGES]:
        if labels_alone:
            equal = reference.labels(image) == int8.labels(image)
        else:
            expected, got = reference.predict(image).double(), int8.predict(image).double()
            signal += float(expected.square().sum())
            noise += float((expected - got).square().sum())
            equal = expected.argmax(1) == got.argmax(1)
        same, pixels = same + float(equal.sum()), pixels + equal.numel()
    if labels_alone:
        return None, same / pixels
    return 10 * float(np.log10(signal / noise)) if noise else float("inf"), same / pixels
