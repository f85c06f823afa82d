"""The page of all keys says what the code takes, and reads well in any terminal."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

from segkd.binding import Bind
from segkd.datasets.transforms import TrainTransform
from segkd.distiller import Distiller
from segkd.report.keys import REQUIRED, keys_markdown, keys_text
from segkd.segmentor import Segmentor
from segkd.supervision.terms import TERM_KEYS
from segkd.training.config import SECTIONS, Config
from segkd.training.keys import Paramwise, Source, Term, in_words, key_sections
from segkd.training.optim import PARAMWISE
from segkd.weight_schedule import WeightSchedule

PAGE = Path(__file__).parents[2] / "configs" / "KEYS.md"


def test_the_page_is_that_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == keys_markdown(key_sections()), "segkd configs --keys --markdown"


@pytest.mark.parametrize("cls", [Bind, Segmentor, Distiller, WeightSchedule, TrainTransform])
def test_what_is_read_of_a_class_is_what_it_takes(cls: type) -> None:
    parameters = inspect.signature(cls).parameters
    keys = {key.name: key for key in Source(f"{cls.__module__}.{cls.__qualname__}").arguments()}
    assert set(keys) == set(parameters)
    for name, parameter in parameters.items():
        default = REQUIRED if parameter.default is parameter.empty else repr(parameter.default)
        assert keys[name].default == default


def test_every_key_is_explained_and_every_section_there() -> None:
    sections = key_sections()
    assert {"", *SECTIONS} <= {section.name for section in sections}
    assert [key.name for key in sections[0].keys] == [one.name for one in fields(Config)]
    for section in sections:
        for key in section.keys:
            assert len(key.doc) > 5, f"{section.title}: {key.name}"


def test_sections_checked_elsewhere_have_the_same_keys() -> None:
    assert {one.name for one in fields(Term)} == set(TERM_KEYS)
    assert {one.name for one in fields(Paramwise)} == set(PARAMWISE)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("int | None", "int"),
        ("str | Mapping[str, Any]", "str or dict"),
        ("Mapping[str, int | None] | None", "dict"),
        ("Sequence[int]", "list"),
        ("Data", "dict"),
        ("Any", "dict or object"),
    ],
)
def test_types_are_words(annotation: str, words: str) -> None:
    assert in_words(annotation) == words


@pytest.mark.parametrize("width", [40, 120])
def test_no_line_is_too_long_for_the_terminal(width: int) -> None:
    lines = [line for part in keys_text(key_sections(), width) for line in part.plain.splitlines()]
    assert max(map(len, lines)) <= width
    for section in key_sections():
        for key in section.keys:
            assert any(line.startswith(f"  {key.name}: ") for line in lines)
