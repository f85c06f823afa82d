"""Colours for data sets that bring none."""

from __future__ import annotations

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
