"""Augmentation of training pairs: random scale, padding, crop, flip and colours, fixed by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from segkd.datasets.base import Array
from segkd.datasets.colours import COLOURS, UNCHANGED, jitter
from segkd.datasets.cutting import MEAN_COLOUR, Cut, cut_image, cut_label, draw_coin, draw_place, draw_scaled
from segkd.errors import UserError, nearest
from segkd.registry import Described
from segkd.views import View

__all__ = ["COLOURS", "MEAN_COLOUR", "TrainTransform", "one_change"]


class TrainTransform(Described):
    """Random scale (aspect kept), padding where the crop is larger, random crop, mirror, colours.

    The result depends on the arguments and the ``seed`` of the call alone, not on worker, global generators or order.
    Images are resized linearly, labels by nearest neighbour; padding is ImageNet's mean colour and label 255 = ignore.
    Its pixels are those of albumentations 2.0.8 with the same draws.

    Args:
        crop_size: (H, W) of the result.
        scale: smallest and largest factor, uniform in between; None for no scaling.
        flip: probability of a left-right mirror.
        photometric: vary brightness, contrast, saturation and hue.
    """

    def __init__(
        self,
        crop_size: Sequence[int],
        scale: Sequence[float] | None = (0.5, 2.0),
        flip: float = 0.5,
        photometric: bool = True,
    ) -> None:
        _check(crop_size, scale, flip)
        self.crop_size = (int(crop_size[0]), int(crop_size[1]))
        self.scale, self.flip, self.photometric = scale, flip, photometric

    def __call__(self, image: Array, label: Array, seed: int) -> tuple[Array, Array]:
        """A pair (h, w, 3) uint8 and (h, w) uint8 as one of (H, W, 3) and (H, W), drawn from ``seed``."""
        return self.with_view(image, label, seed)[:2]

    def with_view(self, image: Array, label: Array, seed: int) -> tuple[Array, Array, View]:
        """The same, and where the result lies on the image."""
        scaling, placing, mirroring, colouring = self._seeds(seed)
        scaled = draw_scaled(image.shape, self.scale, scaling)
        top, left = draw_place(scaled, self.crop_size, random.Random(placing))
        source = (image.shape[0], image.shape[1])
        cut = Cut(source, scaled, top, left, self.crop_size, draw_coin(self.flip, mirroring))
        made, mask = cut_image(image, cut), cut_label(label, cut)
        if self.photometric:  # after the crop: fewer pixels to change
            made = jitter(made, colouring)
        return made, mask, cut.view()

    def _seeds(self, seed: int) -> list[int]:
        """One for each step: with one for all of them, large scales would mean low crops."""
        found = [int(one) for one in np.random.SeedSequence(seed).generate_state(4)]
        return found if self.scale is not None else [0, *found[:3]]  # without a scale, what it would draw is the place


def one_change(
    scale: float | None = None, colours: Sequence[str] = (), mirror: bool = False
) -> Callable[[Array, Array, int], tuple[Array, Array]]:
    """A part of what ``TrainTransform`` does, alone and to every image, which is neither padded nor cut.

    Args:
        scale: the factor of the size.
        colours: which of ``COLOURS`` vary, drawn from the seed of the call.
        mirror: left to right.
    """
    for name in colours:
        if name not in COLOURS:
            raise UserError(f"TrainTransform varies no {name!r}; {nearest(name, COLOURS)}")
    if scale is not None:
        _check((1, 1), (scale, scale), 0)
    ranges = {**UNCHANGED, **{name: COLOURS[name] for name in colours}}

    def change(image: Array, label: Array, seed: int) -> tuple[Array, Array]:
        scaled = draw_scaled(image.shape, None if scale is None else (scale, scale), 0)
        cut = Cut((image.shape[0], image.shape[1]), scaled, 0, 0, scaled, mirror)
        steps = (scale is not None) + mirror  # each has a seed, in order
        own = int(np.random.SeedSequence(seed).generate_state(steps + 1)[steps])
        return jitter(cut_image(image, cut), own, ranges, 1.0), cut_label(label, cut)

    return change


def _check(crop: Sequence[int], scale: Sequence[float] | None, flip: float) -> None:
    if len(crop) != 2 or min(crop) < 1 or any(side != int(side) for side in crop):
        raise UserError(f"TrainTransform crop_size must be whole (height, width) of at least 1, got {tuple(crop)}")
    if scale is not None and (len(scale) != 2 or not 0 < scale[0] <= scale[1]):
        raise UserError(f"TrainTransform scale must be (smallest, largest) above 0, got {tuple(scale)}")
    if not 0 <= flip <= 1:
        raise UserError(f"TrainTransform flip is a probability in 0..1, got {flip}")
