"""What a model sees in images: classes, their names and colours, and how much of the image each of them takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from segkd.deploy.runtimes import LOGITS, Runtime
from segkd.errors import UserError
from segkd.evaluation.inference import Predict, strongest, with_views
from segkd.images import resize_image
from segkd.workbench.predictors import Colour, Predictor
from segkd.workbench.reading import Bad, Picture, Read
from segkd.workbench.sources import Image

SMALLEST = 32  # pixels of a side that networks take
BYTES = 255  # classes that a byte holds, beside void

Found = tuple[NDArray[np.unsignedinteger], NDArray[np.float16] | None]  # (N, H, W), (N, K, H, W)


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
        label: (H, W) uint8, the class of each pixel; uint16 of more than 255 classes.
        class_names, palette: a name and a colour (R, G, B) for each class.
        source: the file's path, "camera:0", or what else it comes from.
        frame: its number in a video, from 0; None for an image.
        scores: (K, H, W) float16, the probability of each class, if they were asked for.
    """

    image: Image
    label: NDArray[np.unsignedinteger]
    class_names: tuple[str, ...]
    palette: tuple[Colour, ...]
    source: str = ""
    frame: int | None = None
    scores: NDArray[np.float16] | None = None

    def counts(self) -> NDArray[np.int64]:
        """Pixels of each class."""
        return np.bincount(self.label.ravel(), minlength=len(self.class_names)).astype(np.int64)

    def shares(self) -> list[Share]:
        """The share of every class, the largest first."""
        return shares_of(self.counts(), self.class_names, self.palette)


def shares_of(counts: NDArray[np.int64], names: Sequence[str], palette: Sequence[Colour]) -> list[Share]:
    """Shares of classes by their pixels, the largest first."""
    percents = (100 * counts / max(1, int(counts.sum()))).tolist()
    return sorted(map(Share, names, percents, palette), key=lambda share: share.percent, reverse=True)


class Segmented(NamedTuple):
    """A picture and what was seen in it."""

    picture: Picture
    seen: Prediction


def segment(
    predictor: Predictor,
    pictures: Iterable[Read],
    *,
    batch: int = 1,
    views: Mapping[str, Any] | None = None,
    scores: bool = False,
) -> Iterator[Segmented | Bad]:
    """What a model sees in each picture, as they are asked for; what could not be read comes by in its place.

    Args:
        predictor: the model.
        pictures: see ``segkd.workbench.reading``.
        batch: images per call of the model; only neighbours of one size go together.
        views: how each image is looked at: ``flip``, ``scales``, ``window``, ``stride`` as of
            ``segkd.evaluation.inference.with_views``.
        scores: also give the probabilities of all classes.
    """
    look = _looking(predictor.runtime, views or {}, scores)
    names, palette, _ = predictor.classes
    for group in _groups(pictures, batch):
        if isinstance(group, Bad):
            yield group
            continue
        images = torch.stack([torch.from_numpy(picture.image).permute(2, 0, 1) for picture in group]).contiguous()
        labels, probabilities = look(images)
        for k, picture in enumerate(group):
            scored = None if probabilities is None else probabilities[k]
            source = str(picture.source)
            yield Segmented(
                picture, Prediction(picture.image, labels[k], names, palette, source, picture.frame, scored)
            )


def _groups(pictures: Iterable[Read], batch: int) -> Iterator[list[Picture] | Bad]:
    """Neighbours of one size, up to ``batch`` of them."""
    group: list[Picture] = []
    for read in pictures:
        if isinstance(read, Bad):
            if group:
                yield group
                group = []
            yield read
            continue
        if group and group[0].image.shape != read.image.shape:
            yield group
            group = []
        group.append(read)
        if len(group) == batch:
            yield group
            group = []
    if group:
        yield group


def _any_size(runtime: Runtime) -> Predict:
    """A model's logits, of images of any size: those too small for a network get a margin, as their edges are."""

    def predict(images: Tensor) -> Tensor:
        height, width = int(images.shape[-2]), int(images.shape[-1])
        if runtime.size is not None:
            return runtime.predict(resize_image(images, runtime.size))
        if min(height, width) >= SMALLEST:
            return runtime.predict(images)
        margin = (0, max(0, SMALLEST - width), 0, max(0, SMALLEST - height))
        padded = F.pad(images.float(), margin, mode="replicate").to(torch.uint8)
        return runtime.predict(padded)[..., :height, :width]

    return predict


def _looking(runtime: Runtime, views: Mapping[str, Any], scores: bool) -> Callable[[Tensor], Found]:
    """Images -> classes, and probabilities if they are asked for."""
    if views.get("stride") and not views.get("window"):
        raise UserError("a stride is that of windows: give a window, too")
    if runtime.output == LOGITS:
        predict = with_views(_any_size(runtime), **views)
        return lambda images: _found(predict(images), images, scores)
    if scores or views.get("flip") or views.get("window") or tuple(views.get("scales", (1.0,))) != (1.0,):
        raise UserError(
            "the file gives labels alone: soft scores, mirror images, scales and windows need one that gives logits "
            "(segkd export --output logits)"
        )
    return lambda images: (_ids(runtime.labels(images), runtime.num_classes), None)


def _found(logits: Tensor, images: Tensor, scores: bool) -> Found:
    if logits.shape[-2:] != images.shape[-2:]:
        logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
    labels = _ids(strongest(logits), logits.shape[1])
    return labels, logits.softmax(1).half().cpu().numpy() if scores else None


def _ids(labels: Tensor, count: int) -> NDArray[np.unsignedinteger]:
    small = labels.to(torch.uint8 if count <= BYTES else torch.int32).cpu().numpy()
    return small if count <= BYTES else small.astype(np.uint16)
