"""The one exception that a user's mistake raises."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input: its message is one clear line that names the thing and the cure.

    The command line prints it without a traceback and exits with code 2.
    """


def nearest(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Text that helps after a misspelt name: its nearest neighbours, else everything there is."""
    choices = sorted(known)
    close = get_close_matches(name, choices, n=limit, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    shown = ", ".join(choices[:40]) + (", ..." if len(choices) > 40 else "")
    return f"there is: {shown}" if choices else "there is none"


def first_line(error: BaseException) -> str:
    """The first line of an exception's text."""
    text = str(error).strip()
    return text.splitlines()[0] if text else ""
