"""Seeds that are fixed functions of integers, for whatever is drawn without a generator that lives on."""

from __future__ import annotations

_MASK = (1 << 64) - 1


def mix_seed(*values: int) -> int:
    """A seed in 0..2^63-1 from integers, unrelated for any change (splitmix64 steps, Steele et al., 2014)."""
    state = 0
    for value in values:
        state = (state ^ (value & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state >> 1
