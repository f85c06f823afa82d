"""What the command line and the calls from Python share: runs opened, models compared, exported, quantised, asked.

Every function takes plain arguments, returns rows or results, and prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: what a comparison says of one model, by column
Row = dict[str, Any]

#: called with what is being done, how much of it is done, and of how much (None where that isn't known)
Progress = Callable[[str, int, int | None], object]


def silent(doing: str, done: int, total: int | None) -> None:
    """The progress that nobody watches."""
