"""The contact sheet: pictures in their places and colours, a legend of what is seen."""

from __future__ import annotations

import numpy as np
import pytest

from segkd.report.contact_sheet import CELL, Sheet, draw_sheet

PALETTE = ((250, 0, 0), (0, 250, 0), (0, 0, 250))
SHEET = Sheet(("one", "two", "three"), PALETTE, "a set", ["as stored"])


def row(name: str, height: int, width: int, classes: int) -> tuple[str, list[tuple[np.ndarray, np.ndarray]]]:
    image = np.full((height, width, 3), 100, np.uint8)
    return name, [(image, np.full((height, width), classes, np.uint8))]


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == np.array(colour, np.uint8)).all(-1).any())


def test_classes_lie_over_their_images_and_stand_in_the_legend() -> None:
    picture = draw_sheet(SHEET, [row("a", 60, 80, 0), row("b", 60, 80, 255)])
    assert picture.dtype == np.uint8
    assert picture.shape[1] >= 4 * CELL  # two images with their labels in a line
    laid = tuple(round(0.6 * part + 0.4 * 100) for part in PALETTE[0])
    assert has(picture, laid)
    assert has(picture, (40, 40, 40))  # void, dark
    assert has(picture, PALETTE[0])  # the swatch
    assert not has(picture, PALETTE[1])  # of a class that is not seen


def test_two_states_take_a_line_each_and_images_of_any_shape_fit() -> None:
    sheet = SHEET._replace(heads=["as stored", "as a training sees it"])
    wide, tall, single = row("w", 10, 900, 1), row("t", 900, 10, 2), row("s", 1, 1, 0)
    rows = [(name, [*pairs, *pairs]) for name, pairs in (wide, tall, single)]
    picture = draw_sheet(sheet, rows)
    assert picture.shape[0] > 3 * 0.4 * CELL
    for colour in PALETTE:
        assert has(picture, colour)
        assert has(picture, tuple(round(0.6 * part + 0.4 * 100) for part in colour))


def test_long_names_and_other_scripts_do_no_harm() -> None:
    sheet = SHEET._replace(class_names=("Straße " * 30, "a\nb", "道路"), title="t" * 900)
    names = ["n" * 900, "路"]
    assert draw_sheet(sheet, [row(name, 40, 40, k) for k, name in enumerate(names)]).size
    with pytest.raises(ValueError, match="at least one image"):
        draw_sheet(sheet, [])
