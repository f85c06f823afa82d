"""Surfaces (what a pixel is) and colours. Colours are shared by all classes on purpose: colour alone tells little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Color = tuple[float, float, float]


class Surface(NamedTuple):
    """Class id of a surface, the strength of its fine and of its blotchy texture, and whether it lies on the ground."""

    label: int
    grain: float
    blotch: float
    ground: bool = False


SURFACES = (
    Surface(0, 0.0, 0.0),  # SKY
    Surface(1, 0.025, 0.05),  # PLASTER
    Surface(1, 0.08, 0.06),  # BRICK
    Surface(1, 0.01, 0.08),  # WINDOW
    Surface(1, 0.14, 0.12),  # GREENERY painted or grown on a wall
    Surface(2, 0.03, 0.05),  # POLE
    Surface(3, 0.09, 0.08, True),  # ROAD
    Surface(4, 0.09, 0.08, True),  # PAVEMENT
    Surface(5, 0.14, 0.10),  # LEAF
    Surface(5, 0.1, 0.08),  # TRUNK
    Surface(5, 0.2, 0.12, True),  # LAWN
    Surface(6, 0.03, 0.05),  # SIGN
    Surface(7, 0.06, 0.06),  # FENCE
    Surface(8, 0.01, 0.05),  # CAR
    Surface(9, 0.05, 0.08),  # PERSON
    Surface(10, 0.05, 0.08),  # CYCLE
    Surface(255, 0.06, 0.08),  # THING of no class
)
(
    SKY,
    PLASTER,
    BRICK,
    WINDOW,
    GREENERY,
    POLE,
    ROAD,
    PAVEMENT,
    LEAF,
    TRUNK,
    LAWN,
    SIGN,
    FENCE,
    CAR,
    PERSON,
    CYCLE,
    THING,
) = range(len(SURFACES))


def table(values: Sequence[float]) -> NDArray[np.float32]:
    """256 entries for a look-up by surface id."""
    out = np.zeros(256, np.float32)
    out[: len(values)] = values
    return out


LABELS = table([s.label for s in SURFACES]).astype(np.uint8)
GRAIN = table([s.grain for s in SURFACES])
BLOTCH = table([s.blotch for s in SURFACES])
GROUND = table([float(s.ground) for s in SURFACES]).astype(np.uint8)

GREYS: tuple[Color, ...] = (
    (62, 62, 66),
    (88, 88, 92),
    (112, 112, 114),
    (136, 134, 132),
    (160, 158, 154),
    (186, 184, 178),
)
EARTHS: tuple[Color, ...] = (
    (146, 82, 62), (118, 66, 54), (172, 110, 82), (198, 178, 142), (222, 210, 184), (152, 128, 100), (108, 84, 62),
    (180, 152, 116), (132, 112, 92),
)  # fmt: skip
VIVID: tuple[Color, ...] = (
    (46, 60, 100), (66, 104, 168), (164, 190, 214), (84, 118, 70), (52, 78, 52), (108, 112, 66), (206, 174, 70),
    (200, 122, 58), (168, 44, 42), (98, 38, 40), (200, 156, 150), (62, 118, 118), (112, 84, 126), (228, 228, 224),
    (34, 34, 38),
)  # fmt: skip
FOLIAGE: tuple[Color, ...] = (
    (70, 98, 46), (52, 80, 42), (88, 108, 56), (104, 116, 60), (60, 88, 62), (44, 66, 40), (96, 110, 74),
    (128, 122, 60), (146, 108, 60), (126, 82, 54),
)  # fmt: skip
SKINS: tuple[Color, ...] = ((226, 184, 156), (206, 158, 126), (164, 116, 86), (112, 76, 56), (84, 58, 46))
WORLD = GREYS + EARTHS + VIVID


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options (much faster than Generator.choice)."""
    return options[int(rng.random() * len(options))]


def shift(color: Color, amount: float) -> Color:
    """The colour brightened (amount > 0) or darkened (< 0) by that fraction."""
    k = 1.0 + amount
    return (color[0] * k, color[1] * k, color[2] * k)


def blend(a: Color, b: Color, share: float) -> Color:
    """``a * (1 - share) + b * share``."""
    keep = 1.0 - share
    return (a[0] * keep + b[0] * share, a[1] * keep + b[1] * share, a[2] * keep + b[2] * share)


def near(rng: np.random.Generator, color: Color, spread: float = 0.15) -> Color:
    """The colour, a little lighter or darker and a little tinted."""
    a, b, c, d = rng.random(4).tolist()
    k = 1 + spread * (2 * a - 1)
    return (color[0] * k + 16 * b - 8, color[1] * k + 16 * c - 8, color[2] * k + 16 * d - 8)


def any_color(rng: np.random.Generator) -> Color:
    """A colour of the world, whatever it is for."""
    return near(rng, pick(rng, WORLD))
