"""What each loss promises beyond the common contract, or exempts itself from; a loss that says nothing promises all.

A new loss with parameters, labels, draws or several taps says so in its test file, ``TRAIT = Trait(...)`` in
``test_NAME.py``; `test_loss_contract.py` reads it.
"""

from __future__ import annotations

import importlib.util
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


def trait(name: str) -> Trait:
    """``TRAIT`` of the loss's own test file; without one the loss promises all."""
    own = f"test_{name}"
    return getattr(importlib.import_module(own), "TRAIT", Trait()) if importlib.util.find_spec(own) else Trait()
