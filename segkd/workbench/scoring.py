"""One model scored on a data set: its row, its pixels image by image, and the images where it does worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import one_hot

from segkd.datasets import SegmentationDataset
from segkd.datasets.image_files import visible
from segkd.datasets.loading import eval_loader
from segkd.deploy.runtimes import LOGITS, Runtime
from segkd.errors import UserError
from segkd.evaluation.inference import evaluate
from segkd.evaluation.intervals import ImageCounts, difference, interval, verdict
from segkd.evaluation.labelmaps import Predict, label_map
from segkd.evaluation.looking import Views
from segkd.evaluation.metric import CONFIDENCE, INSTANCES
from segkd.evaluation.together import Metrics
from segkd.memory import keep_freed_memory, return_freed_memory
from segkd.workbench import Progress, Row, silent


class Bad(NamedTuple):
    """An image where a model does badly.

    Attributes:
        name: of the image in its data set.
        miou: in percent, over the classes that occur in its truth or prediction.
        image: (H, W, 3) uint8 RGB.
        label, prediction: (H, W) uint8, 255 = void.
    """

    name: str
    miou: float
    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


class Scored(NamedTuple):
    """What is known of one model.

    Attributes:
        row: ``name`` and its scores: ``miou``, ``iou`` by class, and what else was asked for; ``parts`` has, by metric,
            the values of classes or categories; with an interval ``miou_low`` and ``miou_high``.
        matrix: int64, truth by prediction.
        images: a row for each image: ``name``, ``miou``, ``pixel_accuracy``, ``pixels``, and the IoU of each class.
        worst: the images with the lowest mIoU, the lowest first.
    """

    row: Row
    matrix: NDArray[np.int64]
    images: list[Row]
    worst: list[Bad]


class Wanted(NamedTuple):
    """What to score by, and how.

    Attributes:
        views: how each image is looked at.
        metrics: names, beside mIoU and the accuracies.
        count_void, void_output: see ``segkd.evaluation.scores.ConfusionMatrix``.
        interval: say between what the mIoU lies, and, of several models, their differences.
        worst: how many images to keep.
    """

    views: Views = Views()
    metrics: Sequence[str] = ()
    count_void: bool = False
    void_output: bool = False
    interval: bool = False
    worst: int = 0

    def made(self, dataset: SegmentationDataset) -> Metrics:
        """The metrics for a data set; a UserError, before the long work, for one that it cannot give."""
        matrix = ImageCounts(dataset.num_classes, self.count_void, self.void_output)
        metrics = Metrics(self.metrics, dataset, matrix)
        if INSTANCES in metrics.needs:
            dataset.instances_of(0)  # type: ignore[attr-defined]
        return metrics


def score_models(
    models: Mapping[str, Runtime],
    dataset: SegmentationDataset,
    wanted: Wanted,
    workers: int = 0,
    progress: Progress = silent,
) -> tuple[list[Scored], list[Row]]:
    """What is known of each model, and, with intervals, the differences of every two.

    A difference has ``name``, ``base``, ``gain`` in points of mIoU, ``low`` and ``high``, and ``verdict``: "better",
    "worse" or "within noise".
    """
    check_labels_alone(models, wanted, wanted.made(dataset))
    found, counts = [], {}
    for name, runtime in models.items():
        scored, matrix = _score(name, runtime, dataset, wanted, workers, progress)
        found.append(scored)
        counts[name] = matrix.of_images()
    pairs = []
    for base, other in combinations(counts, 2) if wanted.interval else ():
        gain = difference([counts[other]], [counts[base]])
        own = {"gain": gain.value, "low": gain.low, "high": gain.high, "verdict": verdict(gain)}
        pairs.append({"name": other, "base": base, **own})
    return found, pairs


def _score(
    name: str, runtime: Runtime, dataset: SegmentationDataset, wanted: Wanted, workers: int, progress: Progress
) -> tuple[Scored, ImageCounts]:
    metrics, total, done = wanted.made(dataset), len(dataset), 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        progress(f"scoring {name}", done, total)

    if wanted.views.window is None:
        keep_freed_memory()
    else:  # which are for images that hardly fit
        return_freed_memory()
    with closing(eval_loader(dataset, batch_size=1, workers=min(workers, 1))) as batches:
        scores = evaluate(
            _predictor(runtime), batches, dataset.num_classes, advance, void_output=wanted.void_output,
            views=wanted.views, metrics=metrics, instances_of=getattr(dataset, "instances_of", None),
        )  # fmt: skip
    matrix = metrics.matrix
    assert isinstance(matrix, ImageCounts)
    row: Row = {"name": name, **scores.as_dict(dataset.class_names)}
    results = metrics.results()
    row |= {key: result.value for key, result in results.items() if key != "miou"}
    if parts := {key: dict(result.parts) for key, result in results.items() if result.parts and key != "miou"}:
        row["parts"] = parts
    if wanted.interval:
        between = interval([matrix.of_images()])
        row |= {"miou_low": between.low, "miou_high": between.high}
    images = image_rows(dataset, matrix)
    scored = [k for k in range(len(images)) if not np.isnan(images[k]["miou"])]
    chosen = sorted(scored, key=lambda k: float(images[k]["miou"]))[: wanted.worst]
    look = partial(_seen, runtime, dataset, wanted)
    worst = [Bad(images[k]["name"], images[k]["miou"], *look(k)) for k in chosen]
    return Scored(row, matrix.counts.numpy(), images, worst), matrix


def _seen(runtime: Runtime, dataset: SegmentationDataset, wanted: Wanted, index: int) -> tuple[Any, Any, Any]:
    """An image, its label, and what the model sees in it; void that is predicted is 255."""
    image, label = dataset[index]
    batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    seen = label_map(_predictor(runtime), batch, label.shape, wanted.views).label[0].cpu().numpy()
    return visible(image), label, np.where(seen >= dataset.num_classes, 255, seen).astype(np.uint8)


def image_rows(dataset: SegmentationDataset, matrix: ImageCounts) -> list[Row]:
    """The scores of each image for itself, in percent (see ``Scored.images``)."""
    rows = []
    for index, (hit, truth, guess) in enumerate(matrix.sides_of_images().astype(float)):
        with np.errstate(invalid="ignore"):
            iou = 100 * hit / (truth + guess - hit)
            accuracy = 100 * hit.sum() / truth.sum()
        miou = float(np.nanmean(iou)) if not np.isnan(iou).all() else float("nan")
        own = {"name": dataset.name_of(index), "miou": miou, "pixel_accuracy": float(accuracy)}
        of_class = {f"IoU {name}": float(value) for name, value in zip(dataset.class_names, iou, strict=True)}
        rows.append({**own, "pixels": int(truth.sum()), **of_class})
    return rows


def _predictor(runtime: Runtime) -> Predict:
    """Images -> logits; those of a file that gives labels alone are 1 at the label, and 0."""
    if runtime.output == LOGITS:
        return runtime.predict
    return lambda image: one_hot(runtime.labels(image).long(), runtime.num_classes).movedim(-1, 1).float()


def check_labels_alone(models: Mapping[str, Runtime], wanted: Wanted, metrics: Metrics) -> None:
    """Refuse what a file that gives labels alone cannot: an average of views, and to say how sure it is."""
    averaged = wanted.views.count > 1 or wanted.views.window is not None
    for name, runtime in models.items():
        if runtime.output != LOGITS and (averaged or CONFIDENCE in metrics.needs):
            raise UserError(
                f"{name} gives labels alone: mirror images, scales, windows and ece need a file that gives logits "
                "(segkd export --output logits)"
            )


def check_sizes(models: Mapping[str, Runtime], size: tuple[int, int], data: str, views: Views) -> None:
    """Refuse, before the long work, an ONNX file of another size than images or windows have, unless it resizes."""
    window = views.window and (min(views.window[0], size[0]), min(views.window[1], size[1]))
    for name, runtime in models.items():
        if runtime.size is None or runtime.resize:
            continue
        own = "x".join(map(str, runtime.size))
        if window is not None and runtime.size != window:
            raise UserError(
                f"{name} takes images of {own} (HxW), but is to see windows of {window[0]}x{window[1]}; "
                f"give windows of {own} (--window), or add --resize"
            )
        if window is None and tuple(views.scales) != (1.0,):
            raise UserError(
                f"{name} takes images of {own} (HxW) alone, and scales show it others; add --resize, or give windows "
                f"of {own} (--window)"
            )
        if window is None and runtime.size != size:
            text = f"{size[0]}x{size[1]}"
            raise UserError(
                f"{name} takes images of {own} (HxW), but those of {data} are {text}; export one with --size {text}, "
                f"or add --resize, or give windows of {own} (--window)"
            )
