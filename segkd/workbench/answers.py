"""What a teacher answers: right or wrong on images as they are and changed, near borders, and how sure it is."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from segkd.datasets import SegmentationDataset
from segkd.datasets.base import IGNORE, Array
from segkd.datasets.loading import Transform
from segkd.datasets.seeds import mix_seed
from segkd.datasets.transforms import COLOURS, one_change
from segkd.errors import UserError
from segkd.evaluation.inference import Predict, check_labels
from segkd.evaluation.scores import ConfusionMatrix, Scores
from segkd.registry import resolve
from segkd.training.build import build_transform

SCALES = (0.5, 0.75, 1.0, 1.5, 2.0)
SCALE, COLOUR, MIRROR, CROP, AUGMENT = "scale", "colours", "mirror", "crop", "augmentation"
ALL = "all colours"
#: distances to the nearest pixel of another label, in pixels: from .. to
BANDS = ((1, 1), (2, 3), (4, 7), (8, 15), (16, None))
SAMPLES = 50_000  # pixels of all images whose probabilities are looked at: shares are right to 0.3 points
BINS = 15  # of the calibration error, as in Guo et al. 2017
TEMPERATURES = (0.05, 20.0)  # between which the best is looked for


class View(NamedTuple):
    """One way to show an image: its name, its group, what varies, and the change of (image, label, seed)."""

    name: str
    group: str
    value: Any
    change: Transform


def views(augment: Mapping[str, Any], dataset: SegmentationDataset | None = None) -> list[View]:
    """Images at several sizes, with other colours, mirrored; in training crops of each size; as the config augments.

    Args:
        augment: ``data.augment`` of a config. Crops are its own (padded, cut and mirrored as it says), if it has what
            ``TrainTransform`` has.
        dataset: of the training, for what goes by its classes.
    """
    found = [View(f"size x {scale:g}", SCALE, scale, one_change(scale=scale)) for scale in SCALES]
    found.append(View("mirrored", MIRROR, True, one_change(mirror=True)))
    every = {**{name: (name,) for name in COLOURS}, ALL: tuple(COLOURS)}
    found += [View(name, COLOUR, name, one_change(colours=names)) for name, names in every.items()]
    if {"scale", "photometric"} <= set(arguments(augment)):
        for scale in SCALES:
            crop = build_transform({**augment, "scale": (scale, scale), "photometric": False}, dataset)
            found.append(View(f"crops, size x {scale:g}", CROP, scale, crop))
        crop = build_transform({**augment, "scale": None, "photometric": True}, dataset)
        found.append(View("crops, colours varied", CROP, ALL, crop))
    return [*found, View("as the config augments", AUGMENT, None, build_transform(augment, dataset))]


def arguments(augment: Mapping[str, Any]) -> list[str]:
    """Names of the arguments that the class of an augmentation takes."""
    return list(inspect.signature(resolve(augment["type"], "augmentation")).parameters) if "type" in augment else []


class Confidence(NamedTuple):
    """How sure answers are, of pixels drawn at random.

    accuracy, confidence: percent right, and the mean of the largest probability in percent.
    error: their distance in ``BINS`` bins of confidence, weighted by pixels (expected calibration error), in points.
    nll: mean negative log-likelihood of the labels, in nats.
    entropy: mean entropy of the probabilities, in nats.
    soft: mean probability (percent) that goes to other classes than the strongest.
    second: of the pixels that are wrong, percent whose label is the second strongest class; NaN without any.
    temperature: by which logits are divided for the smallest ``nll``.
    pixels: how many were looked at.
    """

    accuracy: float
    confidence: float
    error: float
    nll: float
    entropy: float
    soft: float
    second: float
    temperature: float
    pixels: int


class Answers(NamedTuple):
    """What a network answered on some images of a split.

    views: scores by view's name.
    borders: {"from", "to", "share", "accuracy"} for each of ``BANDS``, in percent, at the images' own size.
    confidence: at the images' own size.
    student: scores of the student on the same images, as they are; None without one.
    only_teacher, only_student: percent of pixels where the one alone is right; None without a student.
    commonest: percent of pixels that the commonest class has: so many are right without looking.
    images: how many.
    size: (H, W) of the last.
    """

    views: dict[str, Scores]
    borders: list[dict[str, Any]]
    confidence: Confidence
    student: Scores | None
    only_teacher: float | None
    only_student: float | None
    commonest: float
    images: int
    size: tuple[int, int]


def ask(
    teacher: Predict,
    dataset: SegmentationDataset,
    shown: Sequence[View],
    images: int,
    device: torch.device,
    student: Predict | None = None,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Answers:
    """Show ``images`` images, at equal distances over the data set, in each view to the teacher.

    An enlarged image is cut at random to the size of the original, so that no view needs more memory than that.
    """
    count, classes = min(images, len(dataset)), dataset.num_classes
    if count < 1:
        raise UserError("there is no image to ask the teacher about: the data set is empty")
    matrices = {view.name: ConfusionMatrix(classes) for view in shown}
    borders, sample, both = _Borders(), _Sample(-(-SAMPLES // count), seed), _Both(classes)
    for k in range(count):
        index = k * len(dataset) // count
        image, label = dataset[index]
        check_labels(torch.from_numpy(label.astype(np.int64))[None], torch.tensor([index]), classes)
        for number, view in enumerate(shown):
            own = mix_seed(seed, index, number)
            seen, truth = view.change(image, label, own)
            if view.group == SCALE:
                seen, truth = _window(seen, truth, label.shape, own)
            logits = _predict(teacher, seen, device, classes)
            guess, target = logits.max(1).indices.cpu(), torch.from_numpy(truth.astype(np.int64))[None]
            matrices[view.name].update(guess, target)
            if view.group == SCALE and view.value == 1:
                borders.update(guess[0].numpy(), truth)
                sample.update(logits, target)
                if student is not None:
                    both.update(guess, _predict(student, seen, device, classes).max(1).indices.cpu(), target)
        if progress is not None:
            progress(k + 1, count)
    scores = {name: matrix.result() for name, matrix in matrices.items()}
    size = (int(label.shape[0]), int(label.shape[1]))
    alone = both.matrix.result() if student is not None else None
    first, second = both.shares() if student is not None else (None, None)
    return Answers(scores, borders.rows(), sample.confidence(), alone, first, second, borders.commonest(), count, size)


def _predict(network: Predict, image: Array, device: torch.device, classes: int) -> Tensor:
    """(H, W, 3) uint8 -> logits (1, K, H, W) float32."""
    batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(device)
    with torch.no_grad():
        logits = network(batch).float()
    if logits.shape[1] != classes:
        raise UserError(f"the network predicts {logits.shape[1]} classes, the data set has {classes}")
    if logits.shape[-2:] == batch.shape[-2:]:
        return logits
    return F.interpolate(logits, size=batch.shape[-2:], mode="bilinear", align_corners=False)


def _window(image: Array, label: Array, most: Sequence[int], seed: int) -> tuple[Array, Array]:
    """A random window of at most ``most`` (H, W)."""
    rng, cut = np.random.default_rng(seed), []
    for have, limit in zip(label.shape, most, strict=True):
        first = int(rng.integers(0, max(have - limit, 0) + 1))
        cut.append(slice(first, first + limit))
    return image[cut[0], cut[1]], label[cut[0], cut[1]]


def border_distance(label: Array) -> NDArray[np.int64]:
    """Distance of each pixel (H, W) to the nearest one of another label, void included.

    By king's moves: 1 for the 8 neighbours of another label. Without any other label it is larger than the image.
    """
    around = np.ones((3, 3), np.uint8)
    edge = cv2.dilate(label, around) != cv2.erode(label, around)
    if not edge.any():
        return np.full(label.shape, sum(label.shape), np.int64)
    to_edge = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_C, 3)
    found: NDArray[np.int64] = to_edge.round().astype(np.int64) + 1
    return found


class _Borders:
    """Right and all pixels in each band, and of each label."""

    def __init__(self) -> None:
        self.counts = np.zeros((len(BANDS), 2), np.int64)
        self.labels = np.zeros(IGNORE + 1, np.int64)

    def update(self, guess: NDArray[Any], label: Array) -> None:
        self.labels += np.bincount(label.flatten(), minlength=IGNORE + 1)
        distance, valid = border_distance(label), label != IGNORE
        for band, (low, high) in zip(self.counts, BANDS, strict=True):
            inside = valid & (distance >= low) & (distance <= (math.inf if high is None else high))
            band += np.array([(guess == label)[inside].sum(), inside.sum()])

    def rows(self) -> list[dict[str, Any]]:
        total = max(int(self.counts[:, 1].sum()), 1)
        return [
            {"from": low, "to": high, "share": 100 * int(n) / total, "accuracy": 100 * int(hit) / n if n else math.nan}
            for (low, high), (hit, n) in zip(BANDS, self.counts, strict=True)
        ]

    def commonest(self) -> float:
        return 100 * int(self.labels[:IGNORE].max()) / max(int(self.labels[:IGNORE].sum()), 1)


class _Both:
    """Where teacher and student are right, together."""

    def __init__(self, classes: int) -> None:
        self.matrix = ConfusionMatrix(classes)
        self.counts = np.zeros(3, np.int64)

    def update(self, teacher: Tensor, student: Tensor, label: Tensor) -> None:
        self.matrix.update(student, label)
        valid, first, second = label != IGNORE, teacher == label, student == label
        found = ((first & ~second)[valid].sum(), (second & ~first)[valid].sum(), valid.sum())
        self.counts += np.array([int(x) for x in found])

    def shares(self) -> tuple[float, float]:
        total = max(int(self.counts[2]), 1)
        return 100 * int(self.counts[0]) / total, 100 * int(self.counts[1]) / total


class _Sample:
    """Logits and labels of pixels drawn at random, as many of each image."""

    def __init__(self, pixels: int, seed: int) -> None:
        self.pixels = pixels
        self.generator = torch.Generator().manual_seed(seed)
        self.logits: list[Tensor] = []
        self.labels: list[Tensor] = []

    def update(self, logits: Tensor, label: Tensor) -> None:
        valid = (label[0] != IGNORE).flatten().nonzero()[:, 0]
        chosen = valid[torch.randperm(len(valid), generator=self.generator)[: self.pixels]]
        self.logits.append(logits[0].flatten(1)[:, chosen.to(logits.device)].T.cpu())
        self.labels.append(label.flatten()[chosen])

    def confidence(self) -> Confidence:
        return confidence(torch.cat(self.logits), torch.cat(self.labels))


def confidence(logits: Tensor, label: Tensor) -> Confidence:
    """How sure the answers ``logits`` (M, K) to ``label`` (M,) are."""
    if not len(label):
        raise UserError("no pixel of these images has a label: all are void")
    log_p = logits.double().log_softmax(1)
    p, right = log_p.exp(), logits.max(1).indices == label
    top = p.max(1).values
    bins = (top * BINS).long().clamp(max=BINS - 1)
    gap = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, right.double() - top)
    wrong = logits[~right].topk(min(2, logits.shape[1])).indices[:, -1] == label[~right]
    return Confidence(
        accuracy=100 * float(right.double().mean()),
        confidence=100 * float(top.mean()),
        error=100 * float(gap.abs().sum() / len(label)),
        nll=float(F.nll_loss(log_p, label)),
        entropy=float(-(p * log_p).nan_to_num().sum(1).mean()),
        soft=100 * float((1 - top).mean()),
        second=100 * float(wrong.double().mean()) if len(wrong) else math.nan,
        temperature=best_temperature(logits, label),
        pixels=len(label),
    )


def best_temperature(logits: Tensor, label: Tensor) -> float:
    """The T within ``TEMPERATURES`` with the smallest mean negative log-likelihood of softmax(logits / T).

    (Guo et al. 2017, arXiv 1706.04599, section 4.2.) It is convex in 1 / T: the zero of its slope, by bisection.
    """
    z = logits.double()
    picked = z.gather(1, label[:, None])[:, 0]
    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    for _ in range(30):
        middle = math.sqrt(low * high)
        rising = ((z * middle).softmax(1) * z).sum(1).sub(picked).mean() > 0
        low, high = (low, middle) if rising else (middle, high)
    return 1 / math.sqrt(low * high)


def rows(asked: Mapping[str, Answers], shown: Sequence[View]) -> list[dict[str, Any]]:
    """{"view", "group", "value", "SPLIT_accuracy", "SPLIT_miou"} of each view, by split."""
    found = []
    for view in shown:
        row: dict[str, Any] = {"view": view.name, "group": view.group, "value": view.value}
        for split, answers in asked.items():
            scores = answers.views[view.name]
            row |= {f"{split}_accuracy": scores.pixel_accuracy, f"{split}_miou": scores.miou}
        found.append(row)
    return found
