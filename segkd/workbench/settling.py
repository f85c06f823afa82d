"""What a composed config leaves to its data: numbers of classes and images, class weights, shares of its length.

=========================  ============================================================================
in a part                  in the config of a run
=========================  ============================================================================
``"@classes"``             the number of classes
``"@images"``              the number of training images, those without labels included
``"@bands"``               mean and standard deviation of the bands beyond the third of some training images
``"@10/classes"``          10 by the number of classes, for a weight published for a mean over classes
``class_weight="@enet"``   weights by the share of each class in the pixels of the training labels (``RULES``)
a length between 0 and 1   that share of the training's steps: of ``schedule``, ``warmup``, ``milestones``,
                           ``interval`` (1 at least) and ``val_interval`` (100 at least); of a bind,
                           ``first_stage.steps`` (1 at least), and ``warmup`` and ``stop`` of its ``schedule``
=========================  ============================================================================
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from segkd import arguments
from segkd.datasets import SegmentationDataset
from segkd.datasets.base import RGB
from segkd.datasets.unlabelled import build_images
from segkd.errors import UserError, nearest
from segkd.training.config import Data
from segkd.training.labels import class_frequencies
from segkd.workbench.making import first_split, num_classes


class Rule(NamedTuple):
    """Class weights ``1 / ln(offset + frequency)``, as one network's authors took them.

    ``of``: what a class's frequency is relative to: "all" pixels, those that are "valid", or those of the "highest"
    class.
    """

    offset: float
    of: str


#: of ENet (arXiv:1606.02147), ESPNet, ERFNet and DABNet (their codes), CGNet (1811.08201), LinkNet (1707.03718)
RULES = {
    "@enet": Rule(1.02, "all"),
    "@espnet": Rule(1.10, "all"),
    "@cgnet": Rule(1.10, "valid"),
    "@linknet": Rule(1.02, "highest"),
}
#: key -> the least number of steps that a share of the training comes to
SCHEDULE_LENGTHS = {"warmup": 0, "val_interval": 100, "milestones": 0, "interval": 1}
STAGE_LENGTHS = {"steps": 1}
BIND_LENGTHS = {"warmup": 0, "stop": 0}
LOOKS = 100  # images at most, whose bands are measured
LEAST_STD = 1 / 255  # of a band that is the same everywhere
#: "@classes", "@images", a number divided by one of them, and "@bands"
WORD = re.compile(r"@(?:(\d+)/)?(classes|images)|@(bands)")


def settle(cfg: Mapping[str, Any], frequencies: Sequence[float] | None = None) -> dict[str, Any]:
    """The config with all that depends on its data filled in; ``frequencies`` spare counting labels."""

    @cache
    def split() -> SegmentationDataset:
        return first_split(cfg["data"])

    @cache
    def steps() -> int:
        schedule = cfg["schedule"]
        if schedule.get("steps") is not None:
            return arguments.integer(schedule["steps"], "schedule.steps", "config", 1)
        epochs = arguments.integer(schedule.get("epochs"), "schedule.epochs", "config", 1)
        batch = arguments.integer(cfg["data"].get("batch_size", Data.batch_size), "data.batch_size", "config", 1)
        return max(1, -(-len(split()) * epochs // batch))

    def weights(name: str) -> list[float]:
        shares = frequencies if frequencies is not None else class_frequencies(split())
        return class_weights(name, shares)

    def count() -> int:
        unlabelled = cfg["data"].get("unlabelled")
        return len(split()) + (0 if unlabelled is None else len(build_images(unlabelled, cfg["data"]["dataset"])))

    known = {"classes": lambda: num_classes(cfg["data"]), "images": count, "bands": lambda: measured_bands(split())}
    found = {**cfg, "model": _filled(cfg["model"], known, weights)}
    found["schedule"] = _settled(cfg["schedule"], SCHEDULE_LENGTHS, steps)
    for bind in found["model"].get("binds", {}).values():
        for part, lengths in (("first_stage", STAGE_LENGTHS), ("schedule", BIND_LENGTHS)):
            if isinstance(bind.get(part), Mapping):
                bind[part] = _settled(bind[part], lengths, steps)
    return found


def measured_bands(dataset: SegmentationDataset) -> dict[str, list[float]]:
    """``bands`` of a network (``segkd.models.bands``), of values 0..1, of `LOOKS` images at equal distances."""
    sums, pixels = np.zeros((2, dataset.channels - RGB)), 0
    looks = min(LOOKS, len(dataset))
    for k in range(looks):
        values = dataset[k * len(dataset) // looks].image[..., RGB:].reshape(-1, dataset.channels - RGB) / 255
        sums += np.stack([values.sum(0), (values**2).sum(0)])
        pixels += len(values)
    mean, squares = sums / pixels
    std = np.sqrt(np.maximum(squares - mean**2, LEAST_STD**2))
    return {"mean": mean.round(4).tolist(), "std": std.round(4).tolist()}


def class_weights(rule: str, frequencies: Sequence[float]) -> list[float]:
    """One weight a class by a rule of ``RULES``, in four digits behind the point, as their authors print them.

    Args:
        rule: "@enet", "@espnet", "@cgnet" or "@linknet".
        frequencies: share of each class in all pixels, void included (so that their sum may be below 1).
    """
    if rule not in RULES:
        raise UserError(f"unknown class weights {rule!r}; {nearest(rule, RULES)}")
    offset, of = RULES[rule]
    whole = {"all": 1.0, "valid": sum(frequencies), "highest": max(frequencies)}[of]
    return [round(1 / math.log(offset + share / whole), 4) for share in frequencies]


def _settled(section: Mapping[str, Any], least: Mapping[str, int], steps: Callable[[], int]) -> dict[str, Any]:
    """A section with steps in place of shares of the training's steps."""
    return {k: _length(v, least[k], steps) if k in least else v for k, v in section.items()}


def _length(value: Any, least: int, steps: Callable[[], int]) -> Any:
    if isinstance(value, list | tuple):
        return [_length(one, least, steps) for one in value]
    if not isinstance(value, float) or not 0 < value < 1:
        return value
    return min(steps(), max(least, round(value * steps())))


def _filled(value: Any, known: Mapping[str, Callable[[], Any]], weights: Callable[[str], list[float]]) -> Any:
    if isinstance(value, Mapping):
        named = {k: weights(v) for k, v in value.items() if k == "class_weight" and isinstance(v, str)}
        return {k: _filled(v, known, weights) for k, v in value.items()} | named
    if isinstance(value, list | tuple):
        return type(value)(_filled(one, known, weights) for one in value)
    word = WORD.fullmatch(value) if isinstance(value, str) else None
    if word is None:
        return value
    if word[3] is not None:
        return known[word[3]]()
    count = known[word[2]]()
    return count if word[1] is None else int(word[1]) / count
