"""The bar of a piece of work: in a terminal and a notebook, anew with each thing done; nothing elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from segkd.report.progress import bar, following


def test_it_shows_what_is_done_and_begins_anew() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with following(console) as follow:
        follow("scoring a", 1, 4)
        follow("scoring [b]", 2, 5)
        follow("scoring [b]", 3, 5)
    assert "scoring [b]" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "3/5" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "shown", "live"),
    [
        (dict(force_terminal=True), True, True),
        (dict(force_jupyter=True), True, True),
        (dict(force_terminal=True), False, False),
        (dict(file=io.StringIO()), True, False),
    ],
)
def test_where_it_is_live(options: dict[str, object], shown: bool, live: bool) -> None:
    assert bar(Console(**options), shown).disable is not live  # type: ignore[arg-type]
