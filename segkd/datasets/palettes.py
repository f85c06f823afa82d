"""Colours for data sets that bring none."""

from __future__ import annotations

from typing import Any

from segkd.errors import UserError

Colour = tuple[int, int, int]
# Powers of the root of x^4 = x + 1: steps that fill a cube evenly, however many are taken (M. Roberts's R3 sequence).
_STEPS = tuple(1.2207440846057594**-power for power in (1, 2, 3))


def spread_palette(num_classes: int) -> tuple[Colour, ...]:
    """``num_classes`` colours, always the same, any two of 254 at least 36 apart (sum over R, G, B)."""
    colours = []
    for k in range(num_classes):
        red, green, blue = (round(16 + 224 * ((0.5 + (k + 1) * step) % 1.0)) for step in _STEPS)
        colours.append((red, green, blue))
    return tuple(colours)


def parse_colour(given: Any, owner: str) -> Colour:
    """A colour of three numbers in 0..255, or of ``#RRGGBB`` (what follows, alpha, is left out).

    Raises:
        UserError: anything else, in the name of ``owner``.
    """
    parts = given
    if isinstance(given, str):
        digits = given.removeprefix("#")
        parts = [digits[k : k + 2] for k in (0, 2, 4)] if given.startswith("#") else given.split(",")
    try:
        base = 16 if isinstance(given, str) and given.startswith("#") else 10
        red, green, blue = (int(part, base) if isinstance(part, str) else int(part) for part in parts)
    except (TypeError, ValueError) as error:
        raise UserError(f"{owner}: {given!r} is no colour; write R,G,B of 0..255, or #RRGGBB") from error
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise UserError(f"{owner}: {given!r} is no colour; R, G and B are 0..255")
    return red, green, blue
