"""A run's log as curves: what is drawn where, on which scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segkd.report.curves import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Curve,
    draw_curves,
)  # fmt: skip
from segkd.report.pictures import Image


def record(step: int, **losses: float | None) -> dict[str, Any]:
    return {"step": step, "lr": 100.0, "loss": 1.0, **losses, "seconds_per_step": 100.0}


def val(step: int, value: float | None) -> dict[str, Any]:
    return {"step": step, "val": {"mIoU": value, "mAcc": 99.0}}


def plot(picture: Image, chart: int = 0) -> Image:
    """The inside of a chart's axes."""
    return picture[chart * HEIGHT + TOP : (chart + 1) * HEIGHT - BOTTOM, LEFT + 1 : WIDTH - RIGHT]


def centre(picture: Image, number: int) -> tuple[float, float]:
    """Where the ``number``-th curve's colour lies: row and column, as parts of height and width."""
    found = np.argwhere((picture == COLOURS[number]).all(-1))
    assert len(found)
    row, column = found.mean(0) / picture.shape[:2]
    return float(row), float(column)


def test_losses_and_score_each_have_a_chart() -> None:
    picture = draw_curves([record(10), val(10, 40.0)], "mIoU")
    assert picture.shape == (2 * HEIGHT, WIDTH, 3)
    assert picture.dtype == np.uint8
    assert draw_curves([val(10, 40.0)], "mIoU").shape == (HEIGHT, WIDTH, 3)


def test_a_value_is_drawn_at_its_step_and_height() -> None:
    """Losses of 1, 3 and 2 at steps 100, 50 and 75 of 0 to 100: bottom right, top middle, and between."""
    records = [record(100), record(50, loss=None, loss_a=3.0), record(75, loss=None, loss_b=2.0)]
    inside = plot(draw_curves(records, "mIoU"))
    for number, (row, column) in enumerate([(0.97, 0.97), (0.03, 0.5), (0.5, 0.735)]):
        assert centre(inside, number) == pytest.approx((row, column), abs=0.02)


def test_what_is_no_loss_of_the_main_training_is_passed_over() -> None:
    others = [
        {"first_stage": "deep", "step": 5, "steps": 9, "loss": 900.0},
        {"step": 1, "gradients": {"loss_main": 900.0}},
        {"step": 2, "warning": "loss"},
    ]
    own = [record(10, loss_main=0.5), record(20, loss_main=0.4), val(20, 30.0)]
    assert np.array_equal(draw_curves([*others, *own], "mIoU"), draw_curves(own, "mIoU"))


def test_a_value_that_is_missing_is_a_gap() -> None:
    curve = Curve("loss", [(1, 1.0), (2, None), (3, float("nan")), (4, 2.0), (5, 0.0)])
    assert curve.pieces(Axis([1.0, 2.0])) == [[(1, 1.0)], [(4, 2.0), (5, 0.0)]]
    assert curve.pieces(Axis([1.0, 2.0], logarithmic=True)) == [[(1, 1.0)], [(4, 2.0)]]
    draw_curves([record(1, loss=None), val(1, None)], "mIoU")  # a run whose only values were not finite


def test_terms_far_apart_are_drawn_on_a_logarithmic_scale() -> None:
    """1, 0.1 and 0.01 are equally far apart; with a negative value among them the scale is linear."""
    records = [record(10, loss_a=0.1, loss_b=0.01)]
    rows = [centre(plot(draw_curves(records, "mIoU")), number)[0] for number in range(3)]
    assert rows[1] - rows[0] == pytest.approx(rows[2] - rows[1], abs=0.02)
    records = [record(10, loss_a=0.1, loss_b=-1.0)]
    rows = [centre(plot(draw_curves(records, "mIoU")), number)[0] for number in range(3)]
    assert rows[1] == pytest.approx(0.03 + 0.94 * 0.45, abs=0.02)


@pytest.mark.parametrize(
    ("values", "logarithmic", "integers", "ticks"),
    [
        ([0.0, 10.0], False, True, [0, 2, 4, 6, 8, 10]),
        ([0.0, 3.0], False, True, [0, 1, 2, 3]),
        ([0.0, 60_000.0], False, True, [0, 20_000, 40_000, 60_000]),
        ([0.2, 0.5], False, False, [0.2, 0.3, 0.4, 0.5]),
        ([0.01, 1.0], True, False, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]),
        ([1e-4, 10.0], True, False, [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]),
        ([5.0], False, False, [4.6, 4.8, 5.0, 5.2, 5.4]),
    ],
)
def test_ticks_are_round(values: list[float], logarithmic: bool, integers: bool, ticks: list[float]) -> None:
    assert Axis(values, logarithmic).ticks(integers) == pytest.approx(ticks)


def test_a_log_without_either_is_refused() -> None:
    with pytest.raises(ValueError, match="neither losses nor scores"):
        draw_curves([{"step": 1, "warning": "x"}], "mIoU")
