"""What a composed config leaves to its data: numbers of classes and images, class weights, shares of its length.

=========================  ============================================================================
in a part                  in the config of a run
=========================  ============================================================================
``"@classes"``             the number of classes
``"@images"``              the number of training images
``class_weight="@enet"``   weights by the share of each class in the pixels of the training labels (``RULES``)
a length between 0 and 1   that share of the training's steps: of ``schedule``, ``warmup``, ``milestones`` and
                           ``val_interval`` (100 at least); of a bind, ``first_stage.steps``, and ``warmup`` and
                           ``stop`` of its ``schedule``
=========================  ============================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from segkd.datasets import SegmentationDataset
from segkd.errors import UserError, nearest
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
LEAST_INTERVAL = 100  # steps between two validations whose interval is a share of the training
BIND_LENGTHS = ("warmup", "stop")


def settle(cfg: Mapping[str, Any], frequencies: Sequence[float] | None = None) -> dict[str, Any]:
    """The config with all that depends on its data filled in; ``frequencies`` spare counting labels."""

    @cache
    def split() -> SegmentationDataset:
        return first_split(cfg["data"])

    @cache
    def steps() -> int:
        schedule = cfg["schedule"]
        if schedule.get("steps"):
            return int(schedule["steps"])
        return max(1, -(-len(split()) * int(schedule["epochs"]) // int(cfg["data"]["batch_size"])))

    def weights(name: str) -> list[float]:
        shares = frequencies if frequencies is not None else class_frequencies(split())
        return class_weights(name, shares)

    known = {"@classes": lambda: num_classes(cfg["data"]), "@images": lambda: len(split())}
    found = {**cfg, "model": _filled(cfg["model"], known, weights), "schedule": dict(cfg["schedule"])}
    for key in ("warmup", "val_interval", "milestones"):
        if found["schedule"].get(key) is not None:
            found["schedule"][key] = _length(found["schedule"][key], steps)
            if key == "val_interval" and cfg["schedule"][key] != found["schedule"][key]:
                found["schedule"][key] = min(steps(), max(LEAST_INTERVAL, found["schedule"][key]))
    for bind in found["model"].get("binds", {}).values():
        for part, keys in (("first_stage", ("steps",)), ("schedule", BIND_LENGTHS)):
            if isinstance(bind.get(part), Mapping):
                bind[part] = {k: _length(v, steps) if k in keys else v for k, v in bind[part].items()}
    return found


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


def _length(value: Any, steps: Callable[[], int]) -> Any:
    if isinstance(value, list | tuple):
        return [_length(one, steps) for one in value]
    return round(value * steps()) if isinstance(value, float) and 0 < value < 1 else value


def _filled(value: Any, known: Mapping[str, Callable[[], int]], weights: Callable[[str], list[float]]) -> Any:
    if isinstance(value, Mapping):
        named = {k: weights(v) for k, v in value.items() if k == "class_weight" and isinstance(v, str)}
        return {k: _filled(v, known, weights) for k, v in value.items()} | named
    if isinstance(value, list | tuple):
        return type(value)(_filled(one, known, weights) for one in value)
    return known[value]() if isinstance(value, str) and value in known else value
