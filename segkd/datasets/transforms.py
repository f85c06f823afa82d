"""Augmentation of training pairs: random scale, padding, crop, flip and colours, fixed by a seed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from segkd.datasets.base import IGNORE, Array
from segkd.errors import UserError, nearest
from segkd.registry import Described
from segkd.views import View

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before its import: it would ask the network for its newest version

MEAN_COLOUR = (124, 116, 104)  # ImageNet's mean, RGB: zero after the usual preprocessing
#: what ``photometric`` varies: by factors from .. to, the hue by parts of a turn
COLOURS = {"brightness": (0.7, 1.3), "contrast": (0.7, 1.3), "saturation": (0.7, 1.3), "hue": (-0.04, 0.04)}
UNCHANGED = {"brightness": (1.0, 1.0), "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": (0.0, 0.0)}


class TrainTransform(Described):
    """Random scale (aspect kept), padding where the crop is larger, random crop, mirror, colours (albumentations).

    The result depends on the arguments and the ``seed`` of the call alone, not on worker, global generators or order.
    Images are resized linearly, labels by nearest neighbour; padding is ImageNet's mean colour and label 255 = ignore.

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
        self._compose = _pipeline(self.crop_size, scale, flip, photometric)

    def __call__(self, image: Array, label: Array, seed: int) -> tuple[Array, Array]:
        """A pair (h, w, 3) uint8 and (h, w) uint8 as one of (H, W, 3) and (H, W), drawn from ``seed``."""
        return self.with_view(image, label, seed)[:2]

    def with_view(self, image: Array, label: Array, seed: int) -> tuple[Array, Array, View]:
        """The same, and where the result lies on the image."""
        made, label, applied = _apply(self._compose, image, label, seed)
        return made, label, _view(image.shape[:2], applied)


def _view(image: tuple[int, ...], applied: Sequence[tuple[str, dict[str, Any]]]) -> View:
    """The view that these steps of albumentations gave of an image of size (H, W)."""
    steps = dict(applied)
    crop = steps["RandomCrop"]
    left, top, right, bottom = crop["crop_coords"]
    padding = crop["pad_params"] or {}
    down, along = (whole / scaled for whole, scaled in zip(image, crop["shape"][:2], strict=True))
    mirrored = "HorizontalFlip" in steps
    return View(
        top=(top - padding.get("pad_top", 0)) * down,
        down=down,
        left=((right if mirrored else left) - padding.get("pad_left", 0)) * along,
        right=-along if mirrored else along,
    )


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
    import albumentations

    steps: list[Any] = [] if scale is None else [_scaling((scale, scale))]
    if mirror:
        steps.append(albumentations.HorizontalFlip(p=1.0))
    if colours:
        steps.append(albumentations.ColorJitter(**{**UNCHANGED, **{name: COLOURS[name] for name in colours}}, p=1.0))
    compose = albumentations.Compose(steps)
    return lambda image, label, seed: _apply(compose, image, label, seed)[:2]


def _apply(
    compose: Any, image: Array, label: Array, seed: int
) -> tuple[Array, Array, Sequence[tuple[str, dict[str, Any]]]]:
    # A seed for each step: Compose.set_random_seed gives all of them one, and large scales would mean low crops.
    steps = compose.transforms
    for step, own in zip(steps, np.random.SeedSequence(seed).generate_state(len(steps)), strict=True):
        step.set_random_seed(int(own))
    result = compose(image=image, mask=label)
    applied = result.get("applied_transforms", ())  # (name, parameters) of each step that took place
    return np.ascontiguousarray(result["image"]), np.ascontiguousarray(result["mask"]), applied


def _pipeline(crop: tuple[int, int], scale: Sequence[float] | None, flip: float, photometric: bool) -> Any:
    import albumentations  # here, because its import takes a second that `segkd --help` need not wait for

    steps: list[Any] = [] if scale is None else [_scaling(scale)]
    steps.append(
        albumentations.RandomCrop(
            *crop, pad_if_needed=True, pad_position="random", fill=MEAN_COLOUR, fill_mask=IGNORE, p=1.0
        )
    )
    steps.append(albumentations.HorizontalFlip(p=flip))
    if photometric:  # after the crop: fewer pixels to change
        steps.append(albumentations.ColorJitter(**COLOURS, p=0.8))
    return albumentations.Compose(steps, save_applied_params=True)


def _scaling(scale: Sequence[float]) -> Any:
    import albumentations
    import cv2

    limits = (scale[0] - 1.0, scale[1] - 1.0)  # albumentations counts from 0
    interpolation = dict(interpolation=cv2.INTER_LINEAR, mask_interpolation=cv2.INTER_NEAREST_EXACT)
    return albumentations.RandomScale(limits, **interpolation, p=1.0)


def _check(crop: Sequence[int], scale: Sequence[float] | None, flip: float) -> None:
    if len(crop) != 2 or min(crop) < 1 or any(side != int(side) for side in crop):
        raise UserError(f"TrainTransform crop_size must be whole (height, width) of at least 1, got {tuple(crop)}")
    if scale is not None and (len(scale) != 2 or not 0 < scale[0] <= scale[1]):
        raise UserError(f"TrainTransform scale must be (smallest, largest) above 0, got {tuple(scale)}")
    if not 0 <= flip <= 1:
        raise UserError(f"TrainTransform flip is a probability in 0..1, got {flip}")
