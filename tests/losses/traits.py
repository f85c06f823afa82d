"""What each loss promises beyond the common contract, or exempts itself from; a loss without an entry promises all.

A new loss with parameters, labels, draws or several taps gets an entry here; `test_loss_contract.py` reads it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class Trait(NamedTuple):
    """How the contract test makes and judges a loss.

    Attributes:
        kwargs: constructor arguments, small ones.
        shapes: (C, H, W) of the student's features, one per tap, for the deterministic tests.
        channels: the teacher's channels where they may differ, else None (the student's).
        valid: it takes a mask of valid pixels.
        zero: value and gradient are zero for student = teacher.
        smooth: a numeric gradient check passes.
        repeated: a batch repeated twice gives the same value.
        tiled: a map tiled 2 x 2 gives the same value.
        classes: labels 0..classes-1 are handed over (0: none are).
        lowest: the least value, up to rounding (-inf: none).
        smallest: least (N, C, H, W) that the property test draws.
        divisible: (C, H, W) are multiples of these there.
    """

    kwargs: dict[str, Any] = {}
    shapes: tuple[tuple[int, int, int], ...] = ((3, 5, 4),)
    channels: int | None = None
    valid: bool = True
    zero: bool = True
    smooth: bool = True
    repeated: bool = True
    tiled: bool = True
    classes: int = 0
    lowest: float = 0.0
    smallest: tuple[int, int, int, int] = (1, 1, 1, 1)
    divisible: tuple[int, int, int] = (1, 1, 1)


TRAITS: dict[str, Trait] = {
    # smooth: Z is a constant that the first batch sets, a numeric difference would move it (fixed in test_crd.py);
    # zero: the estimate is no distance, equal inputs are not its minimum
    "crd": Trait(
        kwargs={"n_data": 16, "num_classes": 3, "feat_dim": 4, "nce_k": 20},
        channels=2,
        classes=3,
        smooth=False,
        zero=False,
    ),
    # the mini-batch term, which uses no labels; test_cirkd.py holds the memory terms, on filled queues, to the same
    "cirkd": Trait(kwargs={"lambda_memory_pixel": 0.0, "lambda_memory_region": 0.0}, channels=2),
    # the published gradient takes the vectors' lengths as constants; test_skd_pair.py checks the one that does not
    "skd_pair": Trait(channels=2, smooth=False),
    # random networks stand before the comparison: their borders see a tiled map otherwise
    "knowledge_adaptation": Trait(channels=4, zero=False, tiled=False),
    # a random block stands between student and teacher; its draw and its borders see a tiled map otherwise
    "af_dcd": Trait(
        kwargs={"groups": 2, "pool_size": 2, "patch_size": 2},
        shapes=((4, 5, 4),),
        zero=False,
        tiled=False,
        divisible=(2, 1, 1),
    ),
    "ifvd": Trait(kwargs={"num_classes": 3}, channels=2, classes=3),
    "dkd": Trait(classes=3, smallest=(1, 3, 1, 1)),
    "fsp": Trait(shapes=((3, 5, 4), (2, 5, 4))),
    # responses of the teacher closer to 0 than the margin cost something, on the right side too
    "ab": Trait(shapes=((3, 5, 4), (2, 5, 4)), zero=False),
    # its regressor predicts the teacher from the student's feature, so equal features are no fit; the variance starts
    # at 5, where the value is above 0
    "vid": Trait(channels=4, zero=False),
    "nst": Trait(channels=4),
    "cc": Trait(channels=2),
    "pkt": Trait(kwargs={"eps": 1e-12}, channels=2),  # the one part of it that does not shrink with probabilities
    "sp": Trait(channels=2),
    # the count is that of all pixels of a tiled map; more would take long, by their cube
    "rkd": Trait(kwargs={"count": 24}, shapes=((3, 3, 2),), channels=2),
    # a random block stands between student and teacher; its draw and its borders see a tiled map otherwise
    "mgd": Trait(zero=False, tiled=False),
    # two networks stand before the comparison: their borders see a tiled map otherwise
    "ft": Trait(channels=4, zero=False, tiled=False),
    # the student's term has no minimum and does not look at the teacher; the critic sees where a tiled map's tiles meet
    # and judges whole maps, without a mask; it takes the image, which is not at hand here, in test_skd_holistic.py
    "skd_holistic": Trait(
        kwargs={"conv_dim": 4, "conditional": False},
        valid=False,
        zero=False,
        tiled=False,
        lowest=-math.inf,
        smallest=(1, 2, 1, 1),
    ),
}


def trait(name: str) -> Trait:
    return TRAITS.get(name, Trait())
