"""Arguments as configs give them: each check returns the value in its own type, or says in one line what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from numbers import Real
from typing import Any

from segkd.errors import UserError


def number(
    value: Any,
    argument: str,
    owner: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float = math.inf,
    most: float = math.inf,
) -> float:
    """``value`` as a float; a UserError unless it is a finite number in the range.

    Args:
        value: what was given.
        argument, owner: its name, and the name of what takes it, for the message.
        above, least, below, most: the range, without or with its ends.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    high_enough = is_number and (above is None or value > above) and (least is None or value >= least)
    if not high_enough or not value < below or not value <= most:
        bounds = [] if above is None else [f" above {above:g}"]
        bounds += [] if least is None else [f" from {least:g}"]
        bounds += [] if below == math.inf else [f" below {below:g}"]
        bounds += [] if most == math.inf else [f" to {most:g}"]
        bound = " and".join(bounds).replace(" and to", " to")
        raise UserError(f"{owner}: {argument} must be a number{bound}, got {value!r}")
    return float(value)


def positive(value: Any, argument: str, owner: str) -> float:
    """``value`` as a float; a UserError unless it is a finite number above 0."""
    return number(value, argument, owner, above=0)


def integer(value: Any, argument: str, owner: str, least: int | None = 1) -> int:
    """``value`` as an int; a UserError unless it is an integer (4e4 is one) of ``least`` or more."""
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value != int(value) or (least is not None and value < least):
        bound = "" if least is None else f" from {least}"
        raise UserError(f"{owner}: {argument} must be an integer{bound}, got {value!r}")
    return int(value)


def flag(value: Any, argument: str, owner: str) -> bool:
    """``value`` itself; a UserError unless it is True or False."""
    if not isinstance(value, bool):
        raise UserError(f"{owner}: {argument} must be True or False, got {value!r}")
    return value


def part_name(name: Any, kind: str) -> str:
    """The name of a part that a module holds; a UserError unless torch and file names can hold it."""
    from torch.nn import ModuleDict  # here alone: this file is read by commands that need no torch

    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name) or hasattr(ModuleDict(), name):
        raise UserError(
            f"{kind} {name!r}: choose another name, of letters, digits, _ and -, that is no word of torch's"
        )
    return name


def numbers(values: Any, argument: str, owner: str, *, least: float | None = None) -> tuple[float, ...]:
    """A list of numbers as a tuple of floats; a UserError unless all are finite and from ``least``."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UserError(f"{owner}: {argument} must be a list of numbers, got {values!r}")
    return tuple(number(value, argument, owner, least=least) for value in values)


def weights(owner: str, **values: Any) -> tuple[float, ...]:
    """The weights of a sum's terms as floats: numbers from 0, one of them above; else a UserError."""
    found = tuple(number(value, argument, owner, least=0) for argument, value in values.items())
    if not any(found):
        raise UserError(f"{owner}: {', '.join(values)} are all 0, so there is no term left; give one of them a weight")
    return found
