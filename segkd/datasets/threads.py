"""Looking at the pairs of a data set with several threads: decoding lets other threads go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
MOST = 8


def in_threads(look: Callable[[int], T], indices: Sequence[int]) -> Iterator[T]:
    """``look(index)`` of each index, in order; what it returns should be small, as it may wait for those before it."""
    with ThreadPoolExecutor(min(MOST, os.cpu_count() or 1)) as threads:
        try:
            yield from threads.map(look, indices)
        finally:  # after an error or Ctrl-C, what has not begun is left
            threads.shutdown(wait=False, cancel_futures=True)
