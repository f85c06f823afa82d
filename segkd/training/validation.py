"""Scores of a training's student on the validation split, by any metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from segkd.errors import UserError, nearest
from segkd.evaluation.inference import strongest
from segkd.evaluation.miou import MeanIoU, Metric
from segkd.models import Network
from segkd.registry import build

METHODS = ("reset", "update", "compute")


def build_metrics(given: Any, num_classes: int, best: str) -> list[Metric]:
    """The metrics of a config; the mean IoU unless it names others. ``best`` is the score that chooses weights."""
    if given is None:
        main_score(dict.fromkeys(MeanIoU.names, 0.0), best)
        return [MeanIoU(num_classes)]
    if not isinstance(given, list | tuple) or not given:
        raise UserError(f"metrics must be a list of dict(type=...), got {given!r}")
    built = [build(one, "metric") for one in given]
    for one, metric in zip(given, built, strict=True):
        if not all(callable(getattr(metric, method, None)) for method in METHODS):
            raise UserError(f"metrics: {one!r} is no metric: it needs the methods {', '.join(METHODS)}")
    return built


@torch.no_grad()
def score(
    network: Network, batches: Iterable[Mapping[str, Tensor]], metrics: Sequence[Metric], after: Any
) -> dict[str, float]:
    """Named scores of a network in eval mode, of all metrics together.

    Args:
        network: on its device.
        batches: dicts of ``image`` (N, 3, H, W) uint8 and ``label`` (N, H, W) int64.
        metrics: reset, updated with each batch, computed.
        after: called with (number, batch, predictions) after each batch.
    """
    device = next(network.parameters()).device
    network.eval()
    for metric in metrics:
        metric.reset()
    for number, batch in enumerate(batches):
        prediction = strongest(network.predict(batch["image"].to(device))).cpu()
        for metric in metrics:
            metric.update(prediction, batch["label"])
        after(number, batch, prediction)
    scores: dict[str, float] = {}
    for metric in metrics:
        found = metric.compute()
        named = found if isinstance(found, Mapping) else {type(metric).__name__: found}
        scores |= {str(name): float(value) for name, value in named.items()}
    if all(math.isnan(value) for value in scores.values()):
        raise UserError(
            f"the validation gives no number: {', '.join(scores)} are NaN; check the labels of data.val, and metrics"
        )
    return scores


def class_scores(metrics: Sequence[Metric]) -> tuple[float, ...] | None:
    """The IoU (percent) of each class at the last validation; None if no metric is a ``MeanIoU``."""
    return next((metric.per_class() for metric in metrics if isinstance(metric, MeanIoU)), None)


def main_score(scores: Mapping[str, float], name: str) -> float:
    """The score that chooses the best weights: the larger, the better."""
    if name not in scores:
        raise UserError(f"engine.best={name!r} is none of the scores; {nearest(name, scores)}")
    return scores[name]
