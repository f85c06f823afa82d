"""What a check has found: how bad it is, what it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING, FINE = "error", "warning", "fine"


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        level: "error" (the run would be wasted), "warning" or "fine".
        what: what was found, with its numbers.
        cure: what to do about it, in terms of a config; "" for nothing.
    """

    level: str
    what: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.what}; {self.cure}" if self.cure else self.what
