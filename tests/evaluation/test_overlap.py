"""What is read ahead and counted behind comes in order, at the same time, with its errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from segkd.evaluation.overlap import Behind, read_ahead


def test_items_come_in_order_and_are_read_meanwhile() -> None:
    read = []

    def items() -> Iterator[int]:
        for k in range(6):
            read.append(k)
            yield k

    taken = []
    for k in read_ahead(items()):
        deadline = time.monotonic() + 5
        while k + 1 not in read and k < 5:  # the next one is read before this one is done
            assert time.monotonic() < deadline
            time.sleep(0.001)
        taken.append(k)
        assert len(read) <= k + 4
    assert taken == list(range(6))


def test_an_error_comes_where_the_item_would() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    found = read_ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="broken"):
        next(found)


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    with closing(read_ahead(iter(range(1000)))) as found:
        assert next(found) == 0
    assert threading.active_count() == before


def test_a_loader_with_processes_is_passed_on() -> None:
    class Loader:
        num_workers = 1

        def __iter__(self) -> Iterator[str]:
            yield threading.current_thread().name

    assert list(read_ahead(Loader())) == [threading.current_thread().name]


def test_jobs_are_done_in_order_and_all_at_the_end() -> None:
    done: list[int] = []
    with Behind() as behind:
        for k in range(20):
            behind.do(lambda k=k: (time.sleep(0.001), done.append(k)))
    assert done == list(range(20))


def test_the_error_of_a_job_comes_out_and_the_rest_is_left() -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("no label")

    with pytest.raises(ValueError, match="no label"), Behind() as behind:  # noqa: PT012
        behind.do(fail)
        for k in range(100):
            behind.do(lambda k=k: done.append(k))
            time.sleep(0.001)
    assert len(done) < 100
    with pytest.raises(KeyError), Behind() as behind:  # noqa: PT012
        behind.do(lambda: None)
        raise KeyError
