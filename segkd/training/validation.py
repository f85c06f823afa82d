"""Scores of a training's student on the validation split, by any metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import torch
from torch import Tensor

from segkd.errors import UserError, nearest
from segkd.evaluation.inference import instances_in
from segkd.evaluation.labelmaps import label_map
from segkd.evaluation.looking import Views
from segkd.evaluation.metric import CONFIDENCE, INSTANCES, Classes, Metric
from segkd.evaluation.miou import MeanIoU
from segkd.evaluation.overlap import Behind, read_ahead
from segkd.evaluation.together import Metrics
from segkd.models import Network
from segkd.registry import build

METHODS = ("reset", "update", "compute")


def build_metrics(given: Any, data: Classes, best: str) -> list[Metric]:
    """The metrics of a config; the mean IoU unless it names others. ``best`` is the score that chooses weights."""
    if given is None:
        main_score(dict.fromkeys(MeanIoU.names, 0.0), best)
        return [MeanIoU(data.num_classes)]
    if not isinstance(given, list | tuple) or not given:
        raise UserError(f"metrics must be a list of names and of dict(type=...), got {given!r}")
    names = [one for one in given if isinstance(one, str)]
    others = [one for one in given if not isinstance(one, str)]
    built: list[Metric] = [build(one, "metric") for one in others]
    for one, metric in zip(others, built, strict=True):
        if not all(callable(getattr(metric, method, None)) for method in METHODS):
            raise UserError(f"metrics: {one!r} is no metric: it needs the methods {', '.join(METHODS)}")
    if not names:
        return built
    named = Metrics(names, data)
    titles = [metric.title for metric in named.own.values()]
    if best in named.falling():
        raise UserError(f"engine.best={best!r} is the better the smaller it is; take a score that is the larger")
    if not built:
        main_score(dict.fromkeys(titles, 0.0), best)
    return [named, *built]


@torch.no_grad()
def score(
    network: Network,
    batches: Iterable[Mapping[str, Tensor]],
    metrics: Sequence[Metric],
    after: Any,
    views: Views | None = None,
    instances_of: Callable[[int], Any] | None = None,
) -> dict[str, float]:
    """Named scores of a network in eval mode, of all metrics together; counted while the next batch is predicted.

    Args:
        network: on its device.
        batches: dicts of ``image`` (N, 3, H, W) uint8 and ``label`` (N, H, W) int64.
        metrics: reset, updated with each batch, computed.
        after: called with (number, batch, predictions) after each batch.
        views: how images are looked at.
        instances_of: index -> the instances (H, W) of an image, for metrics that need them.
    """
    device = next(network.parameters()).device
    network.eval()
    for metric in metrics:
        metric.reset()
    needs = {need for metric in metrics for need in getattr(metric, "needs", ())}
    with Behind() as behind, closing(read_ahead(batches)) as read:
        for number, batch in enumerate(read):
            height, width = batch["label"].shape[-2:]
            size, sure = (int(height), int(width)), CONFIDENCE in needs
            seen = label_map(network.predict, batch["image"].to(device), size, views, confident=sure)
            prediction = seen.label.cpu().long()
            more = {} if seen.confidence is None else {CONFIDENCE: seen.confidence.cpu()}
            if INSTANCES in needs and instances_of is not None:
                more[INSTANCES] = instances_in(batch, instances_of)
            behind.do(partial(_count, metrics, prediction, batch["label"], more))
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


def _count(metrics: Sequence[Metric], prediction: Tensor, label: Tensor, more: Mapping[str, Tensor]) -> None:
    for metric in metrics:
        if isinstance(metric, Metrics):
            metric.update(prediction, label, **more)
        else:
            metric.update(prediction, label)


def class_scores(metrics: Sequence[Metric]) -> tuple[float, ...] | None:
    """The IoU (percent) of each class at the last validation; None if no metric of segkd's has counted it."""
    return next((metric.per_class() for metric in metrics if isinstance(metric, MeanIoU | Metrics)), None)


def main_score(scores: Mapping[str, float], name: str) -> float:
    """The score that chooses the best weights: the larger, the better."""
    if name not in scores:
        raise UserError(f"engine.best={name!r} is none of the scores; {nearest(name, scores)}")
    return scores[name]
