"""What is known of a weights file from what lies beside it: the score of its run, and the classes of its data."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segkd.datasets import DATASETS
from segkd.errors import UserError
from segkd.training.configfile import CONFIG
from segkd.training.state import BEST, EMA, LAST

SCORES = {BEST: "val_best", LAST: "val_last", EMA: "ema_best"}  # in metrics.json, by the weights' name


class Record(NamedTuple):
    """What a run folder says of the weights in it; None for what it does not say.

    miou: mean IoU (percent) on the run's validation split.
    dataset: the run's data set, as its config names it.
    class_names: the classes of that data set, in the order of the network's outputs.
    """

    miou: float | None = None
    dataset: str | None = None
    class_names: Sequence[str] | None = None


def record_of(weights: Any) -> Record:
    """The record of a weights file; an empty one if it lies in no run folder.

    The run's config is read as text: no code in it runs.
    """
    if not isinstance(weights, str | Path) or not Path(weights).is_file():
        return Record()
    file = Path(weights)
    data = _data(file.parent / CONFIG)
    given = data.get("dataset")
    dataset: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    kind = dataset.get("type")
    return Record(_miou(file), kind if isinstance(kind, str) else None, _names(data, dataset))


def same_dataset(ours: Any, theirs: str | None) -> bool:
    """False if a config's data set (a class, its path or its name) is known to be another than that of a record."""
    return theirs is None or ours is None or _resolved(ours) is None or _resolved(ours) is _resolved(theirs)


def _miou(file: Path) -> float | None:
    """The validation's mean IoU in ``metrics.json``: of a run folder, or of a released student."""
    try:
        content = json.loads((file.parent / "metrics.json").read_text(encoding="utf-8"))
        if "val_best" in content:
            found = (content.get(SCORES.get(file.name, "")) or {}).get("mIoU")
        else:
            rows = {row["name"]: row["miou"] for row in content["val"]["rows"]}
            found = rows.get(file.name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no such file, or one of another kind
    return float(found) if isinstance(found, int | float) else None


def _data(config: Path) -> Mapping[str, Any]:
    """The section ``data`` of a run's config, which is written as plain values."""
    try:
        body = ast.parse(config.read_text(encoding="utf-8")).body
        for node in body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "data":
                found = ast.literal_eval(node.value)
                return found if isinstance(found, Mapping) else {}
    except (OSError, ValueError, SyntaxError):
        return {}  # no such file, or one that a person wrote
    return {}


def _names(data: Mapping[str, Any], dataset: Mapping[str, Any]) -> Sequence[str] | None:
    val = data.get("val")
    named = {**dataset, **val} if isinstance(val, Mapping) else dataset
    names = named.get("class_names")
    if names is None:
        names = getattr(_resolved(dataset.get("type")), "class_names", None)
    return [str(name) for name in names] if isinstance(names, list | tuple) else None


def _resolved(kind: Any) -> Any:
    """The class of a data set that its config names; of a text, only one of ours: no other module is imported."""
    if not isinstance(kind, str):
        return kind
    if kind not in DATASETS.names() and not kind.startswith("segkd.datasets."):
        return None
    try:
        return DATASETS.resolve(kind)
    except UserError:
        return None  # a data set of another version
