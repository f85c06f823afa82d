"""Metrics that count each object alike, small or large: IoU weighted by instances, as of Cityscapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkd.evaluation.counted import category_members, category_misled
from segkd.evaluation.metric import INSTANCES, METRICS, Classes, Result, Score, lacks
from segkd.evaluation.scores import ConfusionMatrix, summed

#: an instance is numbered class * NUMBERS + its number
NUMBERS = 1000


class OfInstances(Score):
    """iTP / (iTP + FP + iFN) of groups of classes, mean over them.

    A pixel of an instance weighs the mean size of its class's instances over the size of this one; FP is counted in
    pixels, as for IoU (Cordts et al., arXiv 1604.01685, section 4.1).
    """

    needs = (INSTANCES,)
    name: str

    def __init__(self, data: Classes) -> None:
        super().__init__(data)
        self.sizes: Mapping[str, float] = getattr(data, "instance_sizes", None) or {}
        if not self.sizes or not hasattr(data, "instances_of"):
            raise lacks(self.name, data, "the instances of the truth", "cityscapes")
        self.groups = self.members(data)
        names = list(data.class_names)
        self.mean_size = np.array([self.sizes.get(name, np.nan) for name in names])
        self.group_of = np.full(len(names), -1)
        for number, members in enumerate(self.groups.values()):
            self.group_of[members] = number
        self.reset()

    def members(self, data: Classes) -> dict[str, list[int]]:
        """name -> the classes that count as one."""
        raise NotImplementedError

    def reset(self) -> None:
        """See ``Score``."""
        self.sums = torch.zeros(2, len(self.groups), dtype=torch.float64)  # weighted: right, and all

    def update(self, prediction: Tensor, label: Tensor, **seen: Any) -> None:
        """See ``Score``."""
        for guess, objects in zip(prediction.cpu().numpy(), seen[INSTANCES].cpu().numpy(), strict=True):
            self._add(guess[objects >= 0], objects[objects >= 0])

    def _add(self, guess: NDArray[Any], objects: NDArray[Any]) -> None:
        """Add the pixels (M,) of the objects of an image."""
        if not len(objects):
            return
        sizes = np.bincount(objects)
        known = np.append(self.group_of, -1)  # of a prediction of void, too
        group = self.group_of[objects // NUMBERS]
        right = np.bincount(objects[known[np.minimum(guess, len(known) - 1)] == group], minlength=len(sizes))
        there = np.flatnonzero(sizes)
        there = there[self.group_of[there // NUMBERS] >= 0]
        weight = self.mean_size[there // NUMBERS] / sizes[there]
        for k, pixels in enumerate((right, sizes)):
            parts = np.bincount(self.group_of[there // NUMBERS], weight * pixels[there], len(self.groups))
            self.sums[k] += torch.from_numpy(parts)

    def all_reduce(self) -> None:
        """See ``Score``."""
        self.sums = summed(self.sums)

    def result(self, matrix: ConfusionMatrix) -> Result:
        """See ``Score``."""
        misled = torch.stack([category_misled(matrix, members) for members in self.groups.values()])
        values = 100 * self.sums[0] / (self.sums[1] + misled)
        return Result(float(values.nanmean()), dict(zip(self.groups, values.tolist(), strict=True)))


@METRICS.register("iiou")
class InstanceIoU(OfInstances):
    """Instance-weighted IoU (iIoU), mean over the classes that have instances."""

    title, name = "iIoU", "iiou"

    def members(self, data: Classes) -> dict[str, list[int]]:
        return {name: [k] for k, name in enumerate(data.class_names) if name in self.sizes}


@METRICS.register("category_iiou")
class CategoryInstanceIoU(OfInstances):
    """Instance-weighted IoU of the categories of which all classes have instances, mean over them."""

    title, name = "category iIoU", "category_iiou"

    def members(self, data: Classes) -> dict[str, list[int]]:
        names: Sequence[str] = data.class_names
        categories = category_members(self.name, data)
        return {name: own for name, own in categories.items() if all(names[k] in self.sizes for k in own)}
