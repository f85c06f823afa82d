"""Pairs looked at by several threads: in order, few ahead, and no further after an error."""

from __future__ import annotations

import threading
import time

import pytest

from segkd.datasets.threads import AHEAD, MOST, in_threads


def test_results_come_in_order_and_few_ahead() -> None:
    begun = []

    def look(index: int) -> int:
        begun.append(index)
        time.sleep(0.001 * (index % 3))
        return index

    found = []
    for one in in_threads(look, range(200)):
        found.append(one)
        assert len(begun) <= len(found) + (AHEAD + 1) * MOST + 1
    assert found == list(range(200))
    assert list(in_threads(look, [])) == []


def test_an_error_ends_it() -> None:
    begun = threading.Semaphore(0)

    def look(index: int) -> int:
        begun.release()
        if index == 3:
            raise ValueError("three")
        return index

    found: list[int] = []
    with pytest.raises(ValueError, match="three"):
        found.extend(in_threads(look, range(10_000)))
    assert begun._value < 200
