"""Misspelt arguments of the functions of ``import segkd``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from segkd.errors import UserError, nearest

P = ParamSpec("P")
R = TypeVar("R")


def spelled(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with a UserError that names the nearest for an argument that it does not have."""
    known = inspect.signature(function).parameters
    place = "segkd.data" if function.__module__.endswith(".data") else "segkd"

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                raise UserError(f"{place}.{function.__name__} has no argument {name!r}; {nearest(name, known)}")
        return function(*args, **kwargs)

    return checked
