"""Looking at the pairs of a data set with several threads: decoding lets other threads go on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
MOST = 8
AHEAD = 4  # pairs of each thread that may wait for those before them


def in_threads(look: Callable[[int], T], indices: Sequence[int]) -> Iterator[T]:
    """``look(index)`` of each index, in order, a few of them ahead."""
    count = min(MOST, os.cpu_count() or 1)
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(count) as threads:
        try:
            for index in indices:
                waiting.append(threads.submit(look, index))
                if len(waiting) > AHEAD * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # after an error or Ctrl-C, what has not begun is left
            threads.shutdown(wait=False, cancel_futures=True)
