"""Scores and speed of several models side by side: torch weights, ONNX float32, int8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing

from segkd.datasets import SegmentationDataset
from segkd.datasets.base import RGB
from segkd.datasets.loading import eval_loader
from segkd.deploy.runtimes import Runtime
from segkd.errors import UserError
from segkd.evaluation.inference import evaluate
from segkd.evaluation.looking import Views
from segkd.evaluation.scores import ConfusionMatrix, Scores
from segkd.memory import keep_freed_memory
from segkd.workbench import Progress, Row, silent
from segkd.workbench.scoring import Scored, Wanted, check_sizes, score_models
from segkd.workbench.timing import time_models


def evaluate_models(
    models: Mapping[str, Runtime],
    dataset: SegmentationDataset,
    timed_at: tuple[int, int] | None = None,
    *,
    wanted: Wanted | None = None,
    workers: int = 0,
    progress: Progress = silent,
) -> list[Row]:
    """A row for each model: its scores on the data set, and its speed for images of ``timed_at`` (H, W)."""
    return [one.row for one in evaluate_in_detail(models, dataset, timed_at, wanted, workers, progress)[0]]


def evaluate_in_detail(
    models: Mapping[str, Runtime],
    dataset: SegmentationDataset,
    timed_at: tuple[int, int] | None = None,
    wanted: Wanted | None = None,
    workers: int = 0,
    progress: Progress = silent,
) -> tuple[list[Scored], list[Row]]:
    """What is known of each model, and the differences of every two if intervals are wanted (see ``score_models``).

    Args:
        timed_at: (H, W) of images for which each row says the speed, that of one look.
        wanted: what to score by, and how.
        workers: processes that read images; one is enough, so more are as one.
    """
    wanted = wanted or Wanted()
    check_fit(models, dataset, wanted.void_output, wanted.views)
    found, differences = score_models(models, dataset, wanted, workers, progress)
    if timed_at is not None:
        for scored, timed in zip(found, time_models(models, timed_at, progress=progress), strict=True):
            scored.row.update(timed)
    return found, differences


def score_model(
    runtime: Runtime,
    dataset: SegmentationDataset,
    *,
    workers: int = 0,
    progress: Callable[[int, int], object] | None = None,
    matrix: ConfusionMatrix | None = None,
) -> Scores:
    """Scores of one model over the whole data set; ``progress`` is called with the images done and their number.

    The pixels are counted in ``matrix`` where one is given.
    """
    keep_freed_memory()
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, len(dataset))

    with closing(eval_loader(dataset, batch_size=1, workers=min(workers, 1))) as batches:
        return evaluate(runtime.predict, batches, dataset.num_classes, advance, matrix=matrix)


def image_size(dataset: SegmentationDataset) -> tuple[int, int]:
    """(H, W) of the first image."""
    height, width = dataset[0].label.shape
    return int(height), int(width)


def check_fit(
    models: Mapping[str, Runtime], dataset: SegmentationDataset, void_output: bool = False, views: Views | None = None
) -> None:
    """Refuse, before the long work, a model of other classes or bands than the data's, or a file of another size."""
    data = type(dataset).__name__
    for name, runtime in models.items():
        if runtime.num_classes != dataset.num_classes + void_output:
            has = f"{dataset.num_classes}{' and void' if void_output else ''}"
            raise UserError(f"{name} predicts {runtime.num_classes} classes, but {data} has {has}")
        if runtime.channels != getattr(dataset, "channels", RGB):
            raise UserError(
                f"{name} takes images of {runtime.channels} bands, but those of {data} have {dataset.channels}"
            )
    check_sizes(models, image_size(dataset), data, views or Views())
