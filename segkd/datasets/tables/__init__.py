"""Class lists as their owners publish them, a CSV file each: the id in label files, the name, the colour."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from segkd.datasets.palettes import Colour

FOLDER = Path(__file__).parent


class ClassTable(NamedTuple):
    """The classes of a data set in their order: the ids in its label files, names, colours."""

    ids: tuple[int, ...]
    names: tuple[str, ...]
    palette: tuple[Colour, ...]


def read_table(name: str) -> ClassTable:
    """The table of ``NAME.csv``."""
    rows = _rows(name)
    palette = tuple((int(row["red"]), int(row["green"]), int(row["blue"])) for row in rows)
    return ClassTable(tuple(int(row["id"]) for row in rows), tuple(row["name"] for row in rows), palette)


def read_ids(name: str) -> dict[int, int]:
    """Stored id -> class id of a file ``NAME.csv`` that has these alone."""
    return {int(row["id"]): int(row["class"]) for row in _rows(name)}


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
