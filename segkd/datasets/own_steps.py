"""Augmentations of the user's: albumentations' or torchvision's by name, on image and label under one seed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from segkd.datasets.base import IGNORE, Array
from segkd.datasets.seeds import mix_seed
from segkd.errors import UserError, first_line
from segkd.registry import construct, resolve

Pair = tuple[Array, Array]
SEEDS = 2**32  # what albumentations takes
#: torchvision's steps that leave every pixel where it is, by the ends of their modules' names, and beside these
STILL_MODULES, STILL = ("._color",), ("GaussianBlur", "GaussianNoise", "JPEG", "RandomErasing")


class OwnStep:
    """One of ``data.augment.extra``: ``dict(type=..., arguments)``, applied to crops.

    The type is a class of albumentations (a transform or a composition), of ``torchvision.transforms.v2``, or any
    whose objects are called as ``step(image, label, seed)`` and give both. Within its arguments, each further
    ``dict(type=...)`` is built, too. What a step uncovers at an image's border becomes void in the label.

    Attributes:
        moves: a pixel of the result may not be where it was.
    """

    def __init__(self, given: Any) -> None:
        if not isinstance(given, Mapping) or "type" not in given:
            raise UserError(f"data.augment.extra is a list of dict(type=...), got {given!r}")
        self.step = _built(given)
        self.name = type(self.step).__name__
        self._apply, self.moves = self._kind()

    def __call__(self, image: Array, label: Array, seed: int) -> Pair:
        """A crop (H, W, C) uint8 and its label (H, W) uint8, changed, of the same sizes."""
        made, mask = self._apply(image, label, seed)
        wrong = made.shape != image.shape or mask.shape != label.shape
        if wrong or made.dtype != np.uint8 or mask.dtype != np.uint8:
            raise UserError(
                f"data.augment.extra: {self.name} makes an image {made.shape} {made.dtype} and a label {mask.shape} "
                f"{mask.dtype} of {image.shape} and {label.shape} uint8; it must keep sizes and types"
            )
        return np.ascontiguousarray(made), np.ascontiguousarray(mask)

    def _kind(self) -> tuple[Callable[[Array, Array, int], Pair], bool]:
        """How the step is called, and whether it may move pixels."""
        if _is_of(self.step, "albumentations", "BasicTransform", "BaseCompose"):
            return self._by_albumentations, not _still_albumentations(self.step)
        if isinstance(self.step, torch.nn.Module):
            return self._by_torchvision, not _still_torchvision(self.step)
        if callable(self.step):
            return self._called, not getattr(self.step, "still", False)
        raise UserError(f"data.augment.extra: {self.name} cannot be called as step(image, label, seed)")

    def _called(self, image: Array, label: Array, seed: int) -> Pair:
        made, mask = self.step(image, label, seed)
        return made, mask

    def _by_albumentations(self, image: Array, label: Array, seed: int) -> Pair:
        self.step.set_random_seed(seed % SEEDS)
        try:
            found = self.step(image=image, mask=_void_is_zero(label))
        except Exception as error:  # the library's own kinds, OpenCV's, and Python's
            raise UserError(f"data.augment.extra: {self.name} cannot be applied: {first_line(error)}") from error
        return found["image"], self._back(found["mask"], label)

    def _by_torchvision(self, image: Array, label: Array, seed: int) -> Pair:
        from torchvision import tv_tensors

        pair = (
            tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)),
            tv_tensors.Mask(torch.from_numpy(_void_is_zero(label))),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                made, mask = self.step(*pair)
            except Exception as error:  # whatever a step raises of what it is given
                raise UserError(f"data.augment.extra: {self.name} cannot be applied: {first_line(error)}") from error
        return made.permute(1, 2, 0).numpy(), self._back(mask.numpy(), label)

    def _back(self, mask: Array, label: Array) -> Array:
        """A label with void at 0 as one with void at 255; a UserError for values that the step has invented."""
        found = (mask - 1).astype(np.uint8)
        if self.moves and (new := set(np.unique(found)) - set(np.unique(label)) - {IGNORE}):
            raise UserError(
                f"data.augment.extra: {self.name} puts {min(new)} into a label that has no such pixel: leave out what "
                "it fills labels with (void is filled in), and let it take the nearest pixel"
            )
        return found


def own_steps(given: Sequence[Any]) -> list[OwnStep]:
    """The steps of ``data.augment.extra``."""
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise UserError(f"data.augment.extra is a list of dict(type=...), got {given!r}")
    return [OwnStep(one) for one in given]


def apply_steps(steps: Sequence[OwnStep], image: Array, label: Array, seed: int) -> Pair:
    """All steps in order, each from a seed of its own."""
    for number, step in enumerate(steps):
        image, label = step(image, label, mix_seed(seed, number))
    return image, label


def _void_is_zero(label: Array) -> Array:
    """What libraries fill in is 0: so void is 0 for them, and class k is k + 1."""
    return (label + 1).astype(np.uint8)


def _built(given: Any) -> Any:
    """An object of ``dict(type=...)``, and all such within its arguments."""
    if isinstance(given, Mapping):
        content = {key: _built(value) for key, value in given.items() if key != "type"}
        return construct(resolve(given["type"], "data.augment.extra"), content) if "type" in given else content
    return [_built(one) for one in given] if isinstance(given, list | tuple) and _has_types(given) else given


def _has_types(given: Sequence[Any]) -> bool:
    return any(isinstance(one, Mapping) and "type" in one for one in given)


def _is_of(step: Any, library: str, *names: str) -> bool:
    """Whether a library, if it is there, has made an object, by the names of its classes."""
    own = [kind for kind in type(step).__mro__ if kind.__module__.partition(".")[0] == library]
    return library in sys.modules and any(kind.__name__ in names for kind in own)


def _still_albumentations(step: Any) -> bool:
    """Steps on images alone; a composition of such."""
    inner = getattr(step, "transforms", None)
    if _is_of(step, "albumentations", "BaseCompose"):
        return all(map(_still_albumentations, inner or ()))
    return _is_of(step, "albumentations", "ImageOnlyTransform")


def _still_torchvision(step: torch.nn.Module) -> bool:
    """Steps on colours, and some others; a composition of such."""
    own = type(step)
    if inner := getattr(step, "transforms", None):
        return all(map(_still_torchvision, inner))
    return own.__module__.startswith("torchvision.") and (
        own.__module__.endswith(STILL_MODULES) or own.__name__ in STILL
    )
