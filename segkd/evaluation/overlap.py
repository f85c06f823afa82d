"""Reading, predicting and counting at the same time: batches are read ahead, and counted behind, in threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full, Queue
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
DEPTH = 2  # batches that wait, on either side
PATIENCE = 0.1  # seconds between looks at whether the reader is still wanted


def read_ahead(items: Iterable[T], depth: int = DEPTH) -> Generator[T, None, None]:
    """The items, read by a thread while the one before is in use; its errors come out where the item would.

    Close it (``contextlib.closing``) where not all are taken. A loader with processes of its own reads ahead already,
    and notices in the main thread alone if one of them dies: its items are passed on.
    """
    if getattr(items, "num_workers", 0):
        yield from items
        return
    queue: Queue[tuple[str, Any]] = Queue(depth)
    stopped = threading.Event()
    thread = threading.Thread(target=_read, args=(items, queue, stopped), name="segkd-reading", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = queue.get()
            if kind == "item":
                yield item
            elif kind == "error":
                raise item
            else:
                return
    finally:
        stopped.set()
        thread.join()


def _read(items: Iterable[Any], queue: Queue[tuple[str, Any]], stopped: threading.Event) -> None:
    try:
        for item in items:
            if not _put(queue, ("item", item), stopped):
                return
        _put(queue, ("end", None), stopped)
    except BaseException as error:  # whatever it is, it belongs to whoever waits for the item
        _put(queue, ("error", error), stopped)


def _put(queue: Queue[Any], entry: tuple[str, Any], stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            queue.put(entry, timeout=PATIENCE)
        except Full:
            continue
        return True
    return False


class Behind:
    """A thread that does jobs in their order, while the caller goes on; a context that waits for the last one.

    The error of a job comes out of the next call, at the latest at the end of the context.
    """

    def __init__(self, depth: int = DEPTH) -> None:
        self.depth = depth
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="segkd-counting")
        self.jobs: deque[Future[object]] = deque()

    def do(self, job: Callable[[], object]) -> None:
        """Have a job done; waits while too many are undone."""
        self.jobs.append(self.pool.submit(job))
        while len(self.jobs) > self.depth or (self.jobs and self.jobs[0].done()):
            self.jobs.popleft().result()

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self.jobs and error is None:
                self.jobs.popleft().result()
        finally:
            self.pool.shutdown(cancel_futures=True)
