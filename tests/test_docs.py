"""What a reader meets first: every public name says what it is, in a sentence with a subject, at no great length."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "segkd"
MAX_WORDS = 300  # without the lines of the example
#: a first line that begins so leaves out what it is about ("Whether it is on", for "True if it is on")
HEADLESS = {
    "Whether",
    "Inside",
    "Of",
    "Those",
    "These",
    "For",
    "From",
    "With",
    "Without",
    "In",
    "At",
    "On",
    "By",
    "Built",
}
#: methods whose meaning is torch's or Python's
KNOWN = {"forward", "extra_repr"}


class Doc(NamedTuple):
    """A public name's place, its docstring, and the name itself if it is a method's."""

    place: str
    text: str | None
    method: str = ""


def documented(tree: ast.Module, place: str) -> Iterator[Doc]:
    """The public classes, functions and methods of a module."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield Doc(f"{place}.{node.name}", ast.get_docstring(node))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    yield Doc(f"{place}.{node.name}.{inner.name}", ast.get_docstring(inner), inner.name)


def complaints(docs: list[Doc]) -> list[str]:
    """What is wrong with docstrings; a method may leave its own to a class that has one of the same name."""
    explained = KNOWN | {doc.method for doc in docs if doc.text} - {""}
    return [f"{doc.place}: {problem}" for doc in docs if (problem := complaint(doc.text, doc.method in explained))]


def complaint(text: str | None, explained: bool) -> str | None:
    """What is wrong with a docstring, or None."""
    if text is None:
        return None if explained else "no docstring"
    lines = [line for line in text.splitlines() if not line.lstrip().startswith((">>>", "..."))]
    if (words := len(" ".join(lines).split())) > MAX_WORDS:
        return f"{words} words: say what it is and how it is used; the rest is the module's"
    first = text.split()[0].rstrip(",")
    return f"begins with {first!r}, without a subject" if first in HEADLESS else None


def test_every_public_name_says_what_it_is() -> None:
    docs: list[Doc] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        place = str(path.relative_to(PACKAGE.parent))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if tree.body and "/_" not in place.removesuffix("/__init__.py"):
            docs += [Doc(place, ast.get_docstring(tree)), *documented(tree, place)]
    assert len(docs) > 500
    assert complaints(docs) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def f(): ...", ["m.f: no docstring"]),
        ("def _f(): ...", []),
        ('def f():\n    "A number."', []),
        ('def f():\n    "Whether it is on."', ["m.f: begins with 'Whether', without a subject"]),
        (
            f'def f():\n    "{"word " * 301}"',
            ["m.f: 301 words: say what it is and how it is used; the rest is the module's"],
        ),
        (f'def f():\n    """One.\n\n    >>> {"word " * 301}\n    """', []),
        ('class A:\n    "One."\n    def f(self): ...', ["m.A.f: no docstring"]),
        ('class A:\n    "One."\n    def f(self):\n        "Two."\nclass B:\n    "Three."\n    def f(self): ...', []),
    ],
)
def test_the_rule_itself(code: str, found: list[str]) -> None:
    assert complaints(list(documented(ast.parse(code), "m"))) == found
