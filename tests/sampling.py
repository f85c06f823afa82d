"""Long lists of one kind: some of them in the default suite, all of them in ``make test-full``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def sampled(values: Iterable[Any], every: int) -> list[Any]:
    """Each value for ``parametrize``; all but every so-manieth are marked slow. Tuples are several arguments."""
    found: list[Any] = []
    for number, value in enumerate(values):
        given = value if isinstance(value, tuple) else (value,)
        found.append(value if number % every == 0 else pytest.param(*given, marks=pytest.mark.slow))
    return found
