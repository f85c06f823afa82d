"""What a model sees in images: classes, their names and colours, and how much of the image each of them takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from segkd.datasets.image_files import read_image
from segkd.deploy.runtimes import OnnxRuntime, Runtime
from segkd.errors import UserError
from segkd.evaluation.inference import strongest
from segkd.files import existing_file, existing_onnx
from segkd.workbench.zoo import INT8, resolve_release

DEFAULT = "fast_scnn_camvid"

Colour = tuple[int, int, int]


class Share(NamedTuple):
    """The part of an image that one class takes, in percent, with the class's name and its colour (R, G, B)."""

    name: str
    percent: float
    colour: Colour


@dataclass(frozen=True)
class Prediction:
    """One image segmented.

    Attributes:
        image: (H, W, 3) uint8 RGB, as it was read.
        label: (H, W) int64, the class of each pixel.
        class_names, palette: a name and a colour (R, G, B) for each class.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.int64]
    class_names: tuple[str, ...]
    palette: tuple[Colour, ...]

    def shares(self) -> list[Share]:
        """The share of every class, the largest first."""
        percents = (100 * float((self.label == k).mean()) for k in range(len(self.class_names)))
        found = map(Share, self.class_names, percents, self.palette)
        return sorted(found, key=lambda share: share.percent, reverse=True)


def predict_images(model: Runtime, images: Iterable[str | Path | NDArray[np.uint8]]) -> Iterator[Prediction]:
    """What ``model`` (see `open_onnx`) sees in each image, a file or (H, W, 3) uint8 RGB, as they are asked for."""
    names, palette = _classes(model)
    for given in images:
        image = read_image(existing_file(given, "image file")) if isinstance(given, str | Path) else np.asarray(given)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UserError(f"an image is (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
        logits = model.predict(torch.from_numpy(image).permute(2, 0, 1)[None].contiguous())
        yield Prediction(image, strongest(logits)[0].cpu().numpy(), names, palette)


def open_onnx(file: str | Path | None = None, threads: int = 2) -> OnnxRuntime:
    """An ONNX file, or a released network's int8 file by its name, that takes images of any size, resized.

    Without a name it is the released CamVid student.
    """
    return OnnxRuntime(existing_onnx(resolve_release(file or DEFAULT, INT8)), threads, resize=True)


def _classes(model: Runtime) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Names and colours that the file knows, else made up."""
    count = range(model.num_classes)
    names = model.metadata.get("class_names") or [f"class {k}" for k in count]
    colours = model.metadata.get("palette") or [
        ((37 * k + 90) % 256, (91 * k + 30) % 256, (151 * k + 60) % 256) for k in count
    ]
    return tuple(names), tuple((red, green, blue) for red, green, blue in colours)
