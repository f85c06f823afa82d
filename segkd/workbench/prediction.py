"""What a model sees in images: classes, their names and colours, and how much of the image each of them takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from segkd.deploy.runtimes import LOGITS, Runtime
from segkd.errors import UserError
from segkd.evaluation.inference import Predict, strongest, with_views
from segkd.evaluation.labelmaps import label_map
from segkd.evaluation.looking import Views
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
        image: (H, W, C) uint8, the first three bands RGB, as it was read.
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
    views: Views | None = None,
    scores: bool = False,
) -> Iterator[Segmented | Bad]:
    """What a model sees in each picture, as they are asked for; what could not be read comes by in its place.

    Args:
        predictor: the model.
        pictures: see ``segkd.workbench.reading``.
        batch: images per call of the model; only neighbours of one size go together.
        views: how each image is looked at.
        scores: also give the probabilities of all classes.
    """
    look = _looking(predictor.runtime, views or Views(), scores)
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
            return runtime.predict(_resized(images, runtime.size))
        if min(height, width) >= SMALLEST:
            return runtime.predict(images)
        margin = (0, max(0, SMALLEST - width), 0, max(0, SMALLEST - height))
        padded = F.pad(images.float(), margin, mode="replicate").to(torch.uint8)
        return runtime.predict(padded)[..., :height, :width]

    return predict


def _looking(runtime: Runtime, views: Views, scores: bool) -> Callable[[Tensor], Found]:
    """Images -> classes, and probabilities if they are asked for."""
    count = runtime.num_classes
    if runtime.output != LOGITS:
        if scores or views != Views():
            raise UserError(
                "the file gives labels alone: soft scores, mirror images, scales and windows need one that gives "
                "logits (segkd export --output logits)"
            )
        return lambda images: (_ids(runtime.labels(images), count), None)
    predict = _any_size(runtime)
    if not scores:
        return lambda images: (_ids(label_map(predict, images, views=views).label, count), None)
    look = with_views(predict, flip=views.flip, scales=views.scales, window=views.window, stride=views.stride)
    return lambda images: _scored(look(images), images)


def _scored(logits: Tensor, images: Tensor) -> Found:
    if logits.shape[-2:] != images.shape[-2:]:
        logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return _ids(strongest(logits), logits.shape[1]), logits.softmax(1).half().cpu().numpy()


def _ids(labels: Tensor, count: int) -> NDArray[np.unsignedinteger]:
    small = labels.to(torch.uint8 if count <= BYTES else torch.int32).cpu().numpy()
    return small if count <= BYTES else small.astype(np.uint16)


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images at another size, colour by colour: that is done in float32, and they may be large."""
    if tuple(images.shape[-2:]) == size:
        return images
    return torch.cat([resize_image(images[:, k : k + 1], size) for k in range(images.shape[1])], 1)
