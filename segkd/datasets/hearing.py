"""What teachers hear of a training image in place of its crop: what was kept of it before, or the image as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from segkd.datasets.answers import Answers
from segkd.datasets.base import Array
from segkd.views import View


class Hears(Protocol):
    """What teachers hear of an image in place of its crop, as tensors by their names in a batch."""

    def __call__(self, index: int, image: Array, view: View, crop: Sequence[int]) -> dict[str, Tensor]: ...


class Recall:
    """Hears what a teacher gave before, by "answers:" and the tap."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def __call__(self, index: int, image: Array, view: View, crop: Sequence[int]) -> dict[str, Tensor]:
        return {f"answers:{tap}": value for tap, value in self.answers.read(index, image, view, crop).items()}


class Whole:
    """Hears the image as a whole, as "whole", and where the crop lies on it, as "view".

    Args:
        size: (H, W) that the image gets first; None for its own.
    """

    def __init__(self, size: Sequence[int] | None = None) -> None:
        self.size = size

    def __call__(self, index: int, image: Array, view: View, crop: Sequence[int]) -> dict[str, Tensor]:
        height, width = image.shape[:2]
        if self.size is not None and tuple(self.size) != (height, width):
            image = cv2.resize(image, (self.size[1], self.size[0]), interpolation=cv2.INTER_AREA)
        down, along = image.shape[0] / height, image.shape[1] / width
        own = View(view.top * down, view.down * down, view.left * along, view.right * along)
        whole = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return {"whole": whole, "view": torch.tensor(own, dtype=torch.float32)}
