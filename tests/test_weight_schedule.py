"""Weight schedules against their definition."""

from __future__ import annotations

import math

import pytest

from segkd.errors import UserError
from segkd.weight_schedule import WeightSchedule


def test_constant_by_default():
    assert {WeightSchedule()(step) for step in (0, 1, 10**6)} == {1.0}


def test_warmup_is_linear_and_reaches_one():
    schedule = WeightSchedule(warmup=4)
    assert [schedule(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_stop_ends_it():
    schedule = WeightSchedule(stop=3)
    assert [schedule(step) for step in range(5)] == [1, 1, 1, 0, 0]


def test_decays_fall_to_zero_at_the_stop():
    linear, cosine = (WeightSchedule(warmup=2, decay=decay, stop=10) for decay in ("linear", "cosine"))
    assert [linear(step) for step in (1, 2, 6, 9, 10)] == [1.0, 1.0, 0.5, 0.125, 0.0]
    assert cosine(2) == 1.0
    assert cosine(6) == pytest.approx(0.5)
    assert cosine(9) == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)
    assert cosine(10) == 0.0


def test_whole_numbers_may_be_written_as_floats():
    schedule = WeightSchedule(warmup=2e0, stop=1e1)
    assert (schedule.warmup, schedule.stop) == (2, 10)
    assert isinstance(schedule.warmup, int)
    assert isinstance(schedule.stop, int)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(decay="cosin"), "'cosin'"),
        (dict(decay="cosine"), "stop="),
        (dict(warmup=5, stop=5), "before its warm-up"),
        (dict(warmup=-1), "warmup .* integer from 0, got -1"),
        (dict(warmup="a"), "warmup must be an integer from 0, got 'a'"),
        (dict(warmup=None), "warmup .* got None"),
        (dict(warmup=True), "warmup .* got True"),
        (dict(stop=2.5), "stop must be an integer from 1, got 2.5"),
        (dict(stop=float("inf")), "stop .* got inf"),
        (dict(stop=0), "stop .* integer from 1, got 0"),
    ],
)
def test_mistakes_are_named(arguments, words):
    with pytest.raises(UserError, match=words):
        WeightSchedule(**arguments)
