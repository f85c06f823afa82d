"""Names are read from the modules' text; only the module of an asked name is imported."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from segkd import datasets, losses, models
from segkd.errors import UserError
from segkd.registry import Registry

NUMBERS = count()
Make = Callable[..., Registry[Any]]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Writes a package of the given modules, whose registry is its own ``THINGS``."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"things_{next(NUMBERS)}"

    def make(**modules: str) -> Registry[Any]:
        folder = tmp_path / name
        folder.mkdir()
        head = f"from segkd.registry import Registry\nTHINGS = Registry('thing', '{name}')\n"
        (folder / "__init__.py").write_text(head)
        for module, text in modules.items():
            (folder / f"{module}.py").write_text(f"from {name} import THINGS\n{text}")
        registry: Registry[Any] = importlib.import_module(name).THINGS
        return registry

    yield make
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


def imported(registry: Registry[Any]) -> set[str]:
    return {m.partition(".")[2] for m in sys.modules if m.startswith(f"{registry.package}.")}


A = '@THINGS.register("a")\nclass A: ...\n'
B = "@THINGS.register('b')\nclass B: ...\n"


def test_only_the_module_of_the_asked_name_is_imported(package: Make) -> None:
    things = package(first=A, second=B, broken="1 / 0")
    assert things.names() == ["a", "b"]
    assert imported(things) == set()
    assert type(things.create("b")).__name__ == "B"
    assert imported(things) == {"second"}


def test_an_unknown_name_gets_its_neighbours_and_imports_nothing(package: Make) -> None:
    things = package(first=A.replace('"a"', '"attention"'))
    with pytest.raises(UserError, match=r"unknown thing 'atention'; did you mean 'attention'\?"):
        things.get("atention")
    assert imported(things) == set()


def test_one_name_in_two_modules_is_an_error(package: Make) -> None:
    with pytest.raises(ValueError, match=r"'a' is registered twice: in \w+\.first and \w+\.second"):
        package(first=A, second=A).names()


@pytest.mark.parametrize(
    "text",
    [
        'NAME = "a"\n\n@THINGS.register(NAME)\nclass A: ...',
        'for name in ("a",):\n    THINGS.register(name)(type("A", (), {}))',
        '@THINGS.register("b")\nclass B: ...\n\nTHINGS.register("a")(B)',
    ],
)
def test_a_module_that_registers_in_another_way_is_imported_to_know(package: Make, text: str) -> None:
    things = package(first=text)
    assert "a" in things.names()
    assert things.create("a") is not None


def test_a_name_over_several_lines_is_read(package: Make) -> None:
    things = package(first='@THINGS.register(\n    "a",\n)\nclass A: ...')
    assert things.names() == ["a"]
    assert imported(things) == set()


def test_a_class_from_elsewhere(package: Make) -> None:
    """It is known by its name like one of the package's; it cannot take the name of one, imported already or not."""
    things = package(first=A, second=B)

    @things.register("own")
    class Own: ...

    assert things.names() == ["a", "b", "own"]
    assert type(things.build({"type": "own"})) is Own
    with pytest.raises(ValueError, match="'a' is registered twice"):
        things.register("a")(Own)
    with pytest.raises(ValueError, match="'own' is registered twice"):
        things.register("own")(dict)


def test_a_plain_module_is_a_registry_of_its_own(package: Make) -> None:
    things = package(alone=f"from segkd.registry import Registry\nTHINGS = Registry('one', __name__)\n{A}")
    alone = importlib.import_module(f"{things.package}.alone").THINGS
    assert alone.names() == ["a"]


@pytest.mark.parametrize("registry", [models.NETWORKS, losses.LOSSES, datasets.DATASETS], ids=lambda r: r.kind)
def test_what_the_text_tells_is_what_imports_register(registry: Registry[Any]) -> None:
    told = dict(registry._modules)
    for module in pkgutil.iter_modules(importlib.import_module(registry.package).__path__):
        importlib.import_module(f"{registry.package}.{module.name}")
    every = {name: cls.__module__ for name, cls in registry._classes.items()}
    assert {name: m for name, m in every.items() if m.startswith(f"{registry.package}.")} == told
