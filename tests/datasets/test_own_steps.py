"""Augmentations of the user's, by config: one seed for image and label, void where nothing is known."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest
import torch

from segkd.datasets.own_steps import OwnStep
from segkd.datasets.transforms import TrainTransform
from segkd.errors import UserError

V2 = "torchvision.transforms.v2"


def pair() -> tuple[np.ndarray, np.ndarray]:
    """A label of blocks and void, and an image that shows it."""
    rng = np.random.default_rng(1)
    label = np.kron(rng.choice(np.array([0, 3, 9, 255], np.uint8), (8, 10)), np.ones((8, 8), np.uint8))
    return np.repeat(label[..., None], 3, 2), label


def albumentations() -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    return pytest.importorskip("albumentations")


GEOMETRY = [
    (dict(type="albumentations.Affine", rotate=(20, 40), interpolation=0, p=1.0), True),
    (dict(type=f"{V2}.RandomRotation", degrees=(20, 40)), True),
    (dict(type=f"{V2}.RandomVerticalFlip", p=1.0), True),
    (dict(type=f"{V2}.RandomApply", transforms=[dict(type=f"{V2}.RandomAffine", degrees=30)], p=1.0), True),
    (
        dict(type="albumentations.OneOf", transforms=[dict(type="albumentations.VerticalFlip", p=1.0)], p=1.0),
        True,
    ),
]
COLOURS = [
    (dict(type="albumentations.GaussNoise", p=1.0), False),
    (dict(type=f"{V2}.ColorJitter", brightness=0.5), False),
    (dict(type=f"{V2}.Compose", transforms=[dict(type=f"{V2}.GaussianBlur", kernel_size=3, sigma=(1.0, 2.0))]), False),
]


@pytest.mark.parametrize(("step", "moves"), [*GEOMETRY, *COLOURS])
def test_steps_of_libraries(step: dict[str, Any], moves: bool) -> None:
    if "albumentations" in step["type"]:
        albumentations()
    image, label = pair()
    own = OwnStep(step)
    assert own.moves is moves
    made = [own(image, label, seed) for seed in (3, 4, 3)]
    if any(word in str(step) for word in ("Affine", "Rotation", "Noise", "Jitter")):  # which draw
        assert (made[0][0] != made[1][0]).any()
    np.testing.assert_array_equal(made[0][0], made[2][0])
    random.seed(5)
    np.random.seed(6)
    torch.manual_seed(7)
    again = OwnStep(step)(image, label, 3)
    for one, two in zip(made[0], again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert torch.initial_seed() == 7
    crop, mask = made[0]
    assert (crop != image).any()
    if moves:  # image and label went the same way, and what was uncovered is void
        inside = mask != 255
        agree = crop[..., 0] == mask
        assert agree[inside].mean() > 0.9
        assert set(np.unique(mask)) <= {0, 3, 9, 255}
        if "Flip" not in str(step):
            assert (mask[:4, :4] == 255).all() or (mask[:4, -4:] == 255).all()
    else:
        np.testing.assert_array_equal(mask, label)


class Swap:
    """A step of the user's own."""

    def __call__(self, image: np.ndarray, label: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        shift = np.random.default_rng(seed).integers(1, 9)
        return np.roll(image, shift, 0), np.roll(label, shift, 0)


class Halves(Swap):
    def __call__(self, image: np.ndarray, label: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return image[::2], label[::2]


def test_in_the_transform() -> None:
    image, label = pair()
    plain = TrainTransform((48, 64), photometric=False)
    for extra in ([dict(type=Swap)], [dict(type=Swap), dict(type=f"{V2}.RandomPosterize", bits=2, p=1.0)]):
        own = TrainTransform((48, 64), photometric=False, extra=extra)
        (first, mask), (second, moved) = plain(image, label, 9), own(image, label, 9)
        assert (mask != moved).any()
        np.testing.assert_array_equal(np.sort(mask.ravel()), np.sort(moved.ravel()))
        assert first.shape == second.shape
        with pytest.raises(UserError, match=r"data\.augment\.extra \(Swap\) moves pixels .*teacher_view=crop"):
            own.check_still()
    TrainTransform((48, 64), extra=[dict(type=f"{V2}.RandomGrayscale")]).check_still()
    with pytest.raises(UserError, match=r"data\.augment\.paste moves pixels"):
        TrainTransform((48, 64), paste=0.5).check_still()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("blur", r"data\.augment\.extra is a list of dict\(type=\.\.\.\), got 'blur'"),
        ([3], r"data\.augment\.extra is a list of dict\(type=\.\.\.\), got 3"),
        ([dict(type=f"{V2}.GausianBlur")], "has no 'GausianBlur'.*GaussianBlur"),
        ([dict(type=f"{V2}.GaussianBlur", kernel=3)], "GaussianBlur has no argument 'kernel'"),
        ([dict(type="nolibrary.Step")], "cannot import 'nolibrary'"),
        ([dict(type="builtins.object")], "object cannot be called as step"),
    ],
)
def test_bad_steps_are_said_at_once(extra: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainTransform((48, 64), extra=extra)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (dict(type=Halves), r"Halves makes an image \(32, 80, 3\) uint8 and a label \(32, 80\)"),
        (dict(type=f"{V2}.CenterCrop", size=8), r"CenterCrop makes an image \(8, 8, 3\)"),
        (dict(type=f"{V2}.RandomRotation", degrees=(30, 30), fill=255), "puts 254 into a label"),
        (dict(type=f"{V2}.Normalize", mean=[0.5], std=[1.0]), "Normalize cannot be applied"),
    ],
)
def test_steps_that_do_not_fit(step: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        OwnStep(step)(*pair(), 0)


def test_a_step_that_raises_an_error_of_its_library_is_one_line() -> None:
    albumentations()
    step = OwnStep(dict(type="albumentations.RandomCrop", height=500, width=500, p=1.0))
    with pytest.raises(UserError, match=r"^data.augment.extra: RandomCrop cannot be applied: ") as caught:
        step(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), 0)
    assert "\n" not in str(caught.value)
