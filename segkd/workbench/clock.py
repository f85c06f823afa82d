"""Where time goes: calls of named parts timed from outside, each without the parts that run inside it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

#: the name of a part, or what finds it from a call's arguments
Part = str | Callable[..., str]


class Clock:
    """Seconds by part. What runs in a part counts for the innermost one, so the parts add up to all that was timed.

    Args:
        wait: called at each change of parts: until a device has done what it was given.
    """

    def __init__(self, wait: Callable[[], object]) -> None:
        self.wait = wait
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.inside: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What runs inside counts for this part."""
        self._change()
        self.inside.append(name)
        try:
            yield
        finally:
            self._change()
            self.inside.pop()

    def _change(self) -> None:
        """Give the time since the last change to the part that ran."""
        self.wait()
        now = time.perf_counter()
        if self.inside:
            self.seconds[self.inside[-1]] += now - self._since
        self._since = now

    @contextmanager
    def watching(self, *calls: tuple[Any, str, Part]) -> Iterator[None]:
        """A context: each call of (owner, attribute, part) counts for its part; after it every owner is as it was."""
        undo = [_replaced(owner, name, self._timed(getattr(owner, name), part)) for owner, name, part in calls]
        try:
            yield
        finally:
            for back in reversed(undo):
                back()

    def _timed(self, call: Callable[..., Any], part: Part) -> Callable[..., Any]:
        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(part if isinstance(part, str) else part(*args)):
                return call(*args, **kwargs)

        return timed


def _replaced(owner: Any, name: str, value: Any) -> Callable[[], None]:
    """Set an attribute of an object, a class or a module; returns what undoes it."""
    own, old = name in vars(owner), vars(owner).get(name)
    setattr(owner, name, value)
    return lambda: setattr(owner, name, old) if own else delattr(owner, name)
