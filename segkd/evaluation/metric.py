"""Metrics by name: what each is, what it needs to see, and what it gives. One file beside this one for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from segkd.errors import UserError, nearest
from segkd.registry import Registry

if TYPE_CHECKING:  # names are looked up where no one waits for torch
    from torch import Tensor

    from segkd.evaluation.scores import ConfusionMatrix

CONFIDENCE, INSTANCES = "confidence", "instances"


class Metric(Protocol):
    """What a training asks of a metric; torchmetrics' metrics are of this kind."""

    def reset(self) -> None:
        """Forget all batches."""

    def update(self, prediction: Tensor, label: Tensor) -> Any:
        """Add predicted classes (N, H, W) against labels (N, H, W), both int64; 255 in the label is void."""

    def compute(self) -> Any:
        """The score of all batches of all processes: a number, or {name: number}."""


class Classes(Protocol):
    """What a metric may know of a data set; ``categories`` and ``instance_sizes`` only some have."""

    @property
    def num_classes(self) -> int:
        """The number of classes."""

    @property
    def class_names(self) -> Sequence[str]:
        """Their names."""


class Result(NamedTuple):
    """What a metric gives, in percent.

    Attributes:
        value: the one number.
        parts: by class or category, where it is a mean of them; NaN for one that cannot be scored.
    """

    value: float
    parts: Mapping[str, float] | None = None


class Score:
    """A metric by name. It sees each batch, or only the confusion matrix of all of them.

    Attributes:
        title: what it is called in tables and logs.
        needs: what ``update`` is given beside predictions and labels: ``confidence`` (N, H, W), the probability of the
            predicted class; ``instances`` (N, H, W), as ``instances_of`` of a data set gives them.
        rising: the larger, the better.

    Args:
        data: the data set, or what has its ``num_classes`` and ``class_names``.

    Raises:
        UserError: the data set has not what the metric needs.
    """

    title: ClassVar[str]
    needs: ClassVar[Sequence[str]] = ()
    rising: ClassVar[bool] = True

    def __init__(self, data: Classes) -> None:
        self.data = data

    def reset(self) -> None:
        """Forget all batches."""

    def update(self, prediction: Tensor, label: Tensor, **seen: Tensor) -> None:
        """Add a batch, (N, H, W) each; 255 in the label is void."""

    def all_reduce(self) -> None:
        """Sum what was seen over all processes."""

    def result(self, matrix: ConfusionMatrix) -> Result:
        """The score of all batches, whose confusion matrix is given."""
        raise NotImplementedError


METRICS: Registry[Score] = Registry("metric", "segkd.evaluation")


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of metrics; a UserError for one that there is not, with its nearest, and for one given twice."""
    for name in names:
        if name not in METRICS.names():
            raise UserError(f"unknown metric {name!r}; {nearest(name, METRICS.names())}")
        if list(names).count(name) > 1:
            raise UserError(f"the metric {name!r} is named twice")
    return tuple(names)


def create_metrics(names: Sequence[str], data: Classes) -> dict[str, Score]:
    """The metrics by their names, for a data set."""
    return {name: METRICS.get(name)(data) for name in check_names(names)}


def lacks(metric: str, data: Any, what: str, having: str) -> UserError:
    """The error for a metric that a data set cannot give."""
    return UserError(f"the metric {metric} needs {what}, and {type(data).__name__} has none ({having} has)")
