"""A teacher on a few validation images, as it is and with the usual other preprocessings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.datasets import SegmentationDataset
from segkd.datasets.loading import to_tensors
from segkd.models import Network
from segkd.models.base import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from segkd.workbench.agreement import (
    HALF,
    SURELY,
    Agreement,
    Classes,
    agreement,
    count_pairs,
    in_order,
    is_good,
    other_order,
)

CAFFE_MEAN = (104.00699, 116.66877, 122.67892)  # B, G, R of ImageNet in 0..255, as Caffe's models have it
FEW = 2  # images by which preprocessings are compared
GAIN, FACTOR = 10.0, 1.25  # by which the mean IoU (percent) must grow to say that a preprocessing was wrong

Autocast = Callable[[], AbstractContextManager[object]]


class Trial(NamedTuple):
    """Another preprocessing than a network's own.

    what: what would have been wrong.
    preprocess: the constants, as ``Preprocess`` takes them.
    """

    what: str
    preprocess: dict[str, Any]


def spread(length: int, images: int) -> list[int]:
    """Indices of 0..length - 1, ``images`` at most, evenly spread, also where only the first few of them are used."""
    count = min(images, length)
    bits = max(count - 1, 1).bit_length()
    order = sorted(range(count), key=lambda k: f"{k:0{bits}b}"[::-1])
    return [(2 * k + 1) * length // (2 * count) for k in order]


class Looks:
    """What a network answers on evenly spread images of a split: pixels (K, M) by label and output.

    Args:
        network: in eval mode, on its device.
        dataset: the validation split.
        images: how many at most.
        seconds: after these, no further image is looked at (but ``FEW`` always are).
        autocast: the context of a forward pass.
    """

    def __init__(
        self, network: Network, dataset: SegmentationDataset, images: int, seconds: float, autocast: Autocast
    ) -> None:
        self.network, self.num_classes, self.autocast = network, dataset.num_classes, autocast
        self.device = next((p.device for p in network.parameters()), torch.device("cpu"))
        self.finite = True
        self.samples: list[tuple[Tensor, Tensor]] = []
        self.counts: list[Tensor] = []
        began = time.perf_counter()
        for index in spread(len(dataset), images):
            if len(self.samples) >= FEW and time.perf_counter() - began > seconds:
                break
            batch = to_tensors(dataset[index], index)
            self.samples.append((batch["image"][None].to(self.device), batch["label"][None]))
            self.counts.append(self._look(*self.samples[-1]))
        self.seconds_per_image = (time.perf_counter() - began) / len(self.samples)

    @torch.no_grad()
    def _look(self, image: Tensor, label: Tensor) -> Tensor:
        with self.autocast():
            logits = self.network.predict(image).float()
        self.finite &= bool(torch.isfinite(logits).all())
        if logits.shape[-2:] != label.shape[-2:]:
            logits = F.interpolate(logits, size=tuple(label.shape[-2:]), mode="bilinear", align_corners=False)
        return count_pairs(logits.max(1).indices.cpu(), label, self.num_classes, logits.shape[1])

    def total(self, images: int | None = None) -> Tensor:
        """Pixels (K, M) of all images, or of the first few."""
        return torch.stack(self.counts[:images]).sum(0)

    def again(self, trial: Trial, images: int) -> Tensor:
        """Pixels (K, M) of the first few images with another preprocessing."""
        with swapped(self.network, trial):
            return torch.stack([self._look(*sample) for sample in self.samples[:images]]).sum(0)


@contextmanager
def swapped(network: Network, trial: Trial) -> Iterator[None]:
    """A context in which a network has another preprocessing than its own."""
    own, other = network.preprocess, Preprocess(**trial.preprocess)
    network.preprocess = other.to(own.mean.device)
    try:
        yield
    finally:
        network.preprocess = own


def trials(own: Preprocess) -> Iterator[Trial]:
    """The usual preprocessings that differ from a network's own, the likeliest mistakes first."""
    mean, std, scale = own.mean.tolist(), own.std.tolist(), float(own.scale)
    is_rgb = own.order.tolist() == [0, 1, 2]
    flipped = "BGR" if is_rgb else "RGB"
    kept = dict(mean=mean, std=std, scale=scale, channels="RGB" if is_rgb else "BGR")
    seen = [_constants(kept)]
    usual = [
        Trial(f"it wants {flipped} images", {**kept, "channels": flipped}),
        *_both("ImageNet's mean and std", IMAGENET_MEAN, IMAGENET_STD, 1 / 255),
        *_both("0..1", (0.0,) * 3, (1.0,) * 3, 1 / 255),
        *_both("-1..1", (0.5,) * 3, (0.5,) * 3, 1 / 255),
        *_both("0..255", (0.0,) * 3, (1.0,) * 3, 1.0),
        Trial("it wants Caffe's BGR images less their mean", _of(CAFFE_MEAN, (1.0,) * 3, 1.0, "BGR")),
        *(
            Trial(what + order, {**kept, "std": [s * factor for s in std], "channels": channels})
            for what, factor in (("it wants 255 times as much", 1 / 255), ("it wants a 255th of that", 255))
            for order, channels in (("", kept["channels"]), (f", in {flipped}", flipped))
        ),
    ]
    for trial in usual:
        constants = _constants(trial.preprocess)
        if not any(torch.allclose(constants, one, rtol=1e-3, atol=1e-5) for one in seen):
            seen.append(constants)
            yield trial


def _both(name: str, mean: Sequence[float], std: Sequence[float], scale: float) -> Iterator[Trial]:
    yield Trial(f"it wants {name}", _of(mean, std, scale, "RGB"))
    yield Trial(f"it wants {name}, in BGR", _of(mean[::-1], std[::-1], scale, "BGR"))


def _of(mean: Sequence[float], std: Sequence[float], scale: float, channels: str) -> dict[str, Any]:
    return dict(mean=list(mean), std=list(std), scale=scale, channels=channels)


def _constants(preprocess: dict[str, Any]) -> Tensor:
    """What black and white pixels become, by channel of the image: equal for equal preprocessings."""
    corners = torch.tensor([[0.0] * 3, [255.0, 0, 0], [0, 255.0, 0], [0, 0, 255.0]]).view(4, 3, 1, 1)
    found: Tensor = Preprocess(**preprocess)(corners)
    return found


class Better(NamedTuple):
    """A preprocessing by which a network does far better than by its own.

    counts: pixels (K, M) of all images.
    classes: what its outputs then mean.
    after: the scores.
    """

    trial: Trial
    counts: Tensor
    classes: Classes
    after: Agreement


def better_preprocess(looks: Looks, seconds: float) -> Better | None:
    """The best of the usual preprocessings, if it makes a good teacher, far better than the network's own does.

    One that does so by itself goes before one that also needs another order of the classes (in BGR, some classes look
    like others). After ``seconds`` no further one is tried.
    """
    few, began = min(FEW, len(looks.samples)), time.perf_counter()
    own = looks.total(few)
    tried = {}
    for number, trial in enumerate(trials(looks.network.preprocess)):
        if time.perf_counter() - began > seconds:
            break
        tried[number] = trial, looks.again(trial, few)
    for classes_of in (_given, _meant):
        before = agreement(own, classes_of(own)).miou
        scores = {number: _good_miou(counts, classes_of(counts)) for number, (_, counts) in tried.items()}
        best = max(scores, key=lambda number: scores[number], default=None)
        if best is not None and scores[best] >= max(before + GAIN, before * FACTOR):
            trial, counts = tried[best][0], looks.again(tried[best][0], len(looks.samples))
            return Better(trial, counts, classes_of(counts), agreement(counts, classes_of(counts)))
    return None


def _given(counts: Tensor) -> Classes:
    """Every output means the class of its number."""
    return in_order(*counts.shape)


def _meant(counts: Tensor) -> Classes:
    """The same, or another order if that is surely meant."""
    return other_order(counts, _given(counts), SURELY) or _given(counts)


def _good_miou(counts: Tensor, classes: Classes) -> float:
    """The mean IoU of a good teacher; 0 for any other."""
    return agreement(counts, classes).miou if is_good(counts, classes, HALF) else 0.0
