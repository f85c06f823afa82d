"""What teachers hear of a training image in place of its crop: what was kept of it before, or the image as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from segkd.datasets.answers import Answers
from segkd.datasets.base import Array
from segkd.images import resize_image
from segkd.views import ANSWERS, VIEW, WHOLE, View


class Hears(Protocol):
    """What teachers hear of an image in place of its crop, as tensors by their names in a batch."""

    def __call__(self, index: int, image: Array, view: View, crop: Sequence[int]) -> dict[str, Tensor]: ...


class Recall:
    """Hears what a teacher gave before, by "answers:" and the tap."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def __call__(self, index: int, image: Array, view: View, crop: Sequence[int]) -> dict[str, Tensor]:
        return {f"{ANSWERS}{tap}": value for tap, value in self.answers.read(index, image, view, crop).items()}


class Whole:
    """Hears the image as a whole, as "whole", and where the crop lies on it, as "view".

    Args:
        size: (H, W) that the image gets first; None for its own.
    """

    def __init__(self, size: Sequence[int] | None = None) -> None:
        self.size = size

    def __call__(self, index: int, image: Array, view: View, crop: Sequence[int]) -> dict[str, Tensor]:
        whole = resize_image(torch.from_numpy(image).permute(2, 0, 1)[None], self.size or image.shape[:2])[0]
        down, along = (whole.shape[1 + axis] / image.shape[axis] for axis in (0, 1))
        own = View(view.top * down, view.down * down, view.left * along, view.right * along)
        return {WHOLE: whole.contiguous(), VIEW: torch.tensor(own, dtype=torch.float32)}
