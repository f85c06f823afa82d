"""Checks of a config's values: each gives the value in its own type, or a UserError that names the key."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from segkd import arguments
from segkd.errors import UserError
from segkd.evaluation.metric import check_names

CROP, WHOLE = "crop", "whole"  # what teachers see
Check = Callable[[Any, str], Any]  # (value, key) -> the value in its own type, or a UserError


def integer(least: int, most: int | None = None, why: str = "") -> Check:
    """A check for an integer in a range; one written as a float (1e3) becomes an int."""

    def check(value: Any, name: str) -> int:
        found = arguments.integer(value, name, "config", least)
        if most is not None and found > most:
            raise UserError(f"config: {name} must be {most} or less{why}, got {found}")
        return found

    return check


def boolean(value: Any, name: str) -> bool:
    """A check for True or False."""
    return arguments.flag(value, name, "config")


def dictionary(value: Any, name: str) -> Any:
    """A check for a dictionary."""
    if not isinstance(value, Mapping):
        raise UserError(f"config: {name} must be a dictionary, got {value!r}")
    return value


def split(value: Any, name: str) -> Any:
    """A check for arguments, or for a data set that was given from Python."""
    return value if hasattr(value, "class_names") else dictionary(value, name)


def images(value: Any, name: str) -> Any:
    """A check for a folder, or for the arguments of a data set."""
    return str(value) if isinstance(value, str | os.PathLike) else dictionary(value, name)


def place(value: Any, name: str) -> str | bool:
    """A check for True, False or a folder."""
    if isinstance(value, str | os.PathLike) and str(value):
        return str(value)
    if not isinstance(value, bool):
        raise UserError(f"config: {name} must be True or False, or a folder, got {value!r}")
    return value


def positive(value: Any, name: str) -> float:
    """A check for a number above 0."""
    return arguments.number(value, name, "config", above=0)


def view(value: Any, name: str) -> Any:
    """A check for a teacher's view: one of two names, or a size (H, W)."""
    if isinstance(value, str):
        return one_of(CROP, WHOLE)(value, name)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise UserError(f"{name} is {CROP!r}, {WHOLE!r} or a size (H, W), got {value!r}")
    return tuple(integer(32)(side, name) for side in value)


def folder(value: Any, name: str) -> str:
    """A check for a folder."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise UserError(f"config: {name} must be a folder, got {value!r}")
    return str(value)


def folders(value: Any, name: str) -> Any:
    """A check for a list of folders."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str | os.PathLike) for one in value):
        raise UserError(f"config: {name} must be a list of folders, got {value!r}")
    return value


def decay(value: Any, name: str) -> float:
    """A check for the decay of a moving average."""
    return arguments.number(value, name, "config", above=0, below=1)


def one_of(*names: str) -> Check:
    """A check for one of several names."""

    def check(value: Any, name: str) -> str:
        if value not in names:
            raise UserError(f"{name} {value!r} is not one of {', '.join(names)}")
        return str(value)

    return check


def pair(least: int) -> Check:
    """A check for a size (H, W)."""

    def check(value: Any, name: str) -> tuple[int, ...]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise UserError(f"config: {name} must be a size (H, W), got {value!r}")
        return tuple(integer(least)(side, name) for side in value)

    return check


def factors(value: Any, name: str) -> tuple[float, ...]:
    """A check for factors of an image's size."""
    found = arguments.numbers(value, name, "config")
    if not found or not all(0 < one < 100 for one in found):
        raise UserError(f"config: {name} must be factors of the image's size, as (0.5, 1.0, 1.5), got {value!r}")
    return found


def metrics(value: Any, name: str) -> Any:
    """A check for the names among metrics."""
    if isinstance(value, list | tuple):
        check_names([one for one in value if isinstance(one, str)])
    return value
