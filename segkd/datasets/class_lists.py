"""The classes of one's own data from the file that names them: text, labelmap.txt, CSV, JSON or YAML."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segkd.datasets.palettes import Colour, parse_colour
from segkd.errors import UserError

#: what such a file is called beside images and labels, in the order in which they are looked for
FILES = (
    "classes.txt", "labelmap.txt", "label_map.txt", "_classes.csv", "class_dict.csv", "classes.csv", "data.yaml",
    "data.yml", "dataset.yaml", "classes.json", "classes.yaml", "label_classes.json", "obj.names", "labels.txt",
)  # fmt: skip
NAME_KEYS, ID_KEYS = ("name", "class", "class_name", "label"), ("id", "pixel value", "png_index", "index", "value")
COLOUR_KEYS = ("color", "colour", "rgb", "color_rgb")
LABELMAP_LINE = re.compile(r"(.+?):(\d{1,3}),\s*(\d{1,3}),\s*(\d{1,3})(?::.*)?")
CURE = "write a class name on each line of a text file, in the order of their ids, or list them: road,car"


class ClassEntry(NamedTuple):
    """A class as it is listed: its name, the id by which masks hold it, its colour, where these are said."""

    name: str
    stored: int | None = None
    colour: Colour | None = None


def read_class_list(given: str | Path | Sequence[Any]) -> list[ClassEntry]:
    """The classes of a file, or of a list of names; ``"road,car"`` is such a list, too.

    - text: a name on each line; ``NAME:R,G,B::`` is CVAT's labelmap.txt;
    - CSV with a header: ``Pixel Value, Class`` (Roboflow), or ``name,r,g,b``;
    - JSON or YAML: a list of names or of ``{name, id, color}``, ``{id: name}``, or either under ``names`` (YOLO's
      data.yaml), ``classes`` or ``categories`` (COCO).

    Raises:
        UserError: a file that cannot be read or names no class, a class or an id twice.
    """
    if isinstance(given, str) and "," in given and not Path(given).exists():
        given = [name.strip() for name in given.split(",") if name.strip()]
    if not isinstance(given, str | Path):
        entries, source = [ClassEntry(str(name)) for name in given], "class_names"
    else:
        path = Path(given).expanduser()
        entries, source = _read(path), str(path)
    if not entries:
        raise UserError(f"{source} holds no class names: {CURE}")
    for key, what in ((0, "the class"), (1, "the id"), (2, "the colour")):
        values = [entry[key] for entry in entries if entry[key] is not None]
        if twice := [value for value in values if values.count(value) > 1]:
            raise UserError(f"{source} names {what} {twice[0]!r} twice")
    if 0 < sum(entry.stored is not None for entry in entries) < len(entries):
        raise UserError(f"{source} gives an id to some classes, and none to others: give one to all or to none")
    return entries


def read_class_names(given: str | Path | Sequence[Any]) -> tuple[str, ...]:
    """The names alone of what ``read_class_list`` reads."""
    return tuple(entry.name for entry in read_class_list(given))


def find_class_list(folders: Iterable[Path]) -> Path | None:
    """The first file in one of the folders that is called as class lists are; None without any."""
    for folder in folders:
        for name in FILES:
            if (folder / name).is_file():
                return folder / name
    return None


def _read(path: Path) -> list[ClassEntry]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read class names from {path}: {error}; {CURE}") from error
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _of_rows(text, path)
    if suffix in (".json", ".yaml", ".yml"):
        return _of_tree(_parsed(text, path), path)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    matches = [LABELMAP_LINE.fullmatch(line) for line in lines]
    if lines and all(matches):
        return [ClassEntry(m[1].strip(), None, parse_colour([m[2], m[3], m[4]], str(path))) for m in matches if m]
    return [ClassEntry(line) for line in lines]


def _of_rows(text: str, path: Path) -> list[ClassEntry]:
    lines = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines())]
    rows = {number: row for number, row in enumerate(lines, 1) if any(row)}
    first = next(iter(rows.values()), [])
    header = [cell.lower() for cell in first]
    name = next((header.index(key) for key in NAME_KEYS if key in header), None)
    if name is None:
        raise UserError(f"{path}: the first line must name the columns, such as 'Pixel Value, Class' or 'name,r,g,b'")
    stored = next((header.index(key) for key in ID_KEYS if key in header), None)
    colour = [header.index(key) for key in "rgb"] if {"r", "g", "b"} <= set(header) else None
    entries = []
    for number, row in list(rows.items())[1:]:
        try:
            number_of = None if stored is None else int(row[stored])
            shade = None if colour is None else parse_colour([row[column] for column in colour], str(path))
            entries.append(ClassEntry(row[name], number_of, shade))
        except (IndexError, ValueError) as error:
            raise UserError(f"{path}, line {number}: {','.join(row)!r} does not fit the columns {first}") from error
    return entries


def _parsed(text: str, path: Path) -> Any:
    """The content of a JSON or YAML file."""
    import yaml  # here: most data needs none

    try:
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read class names from {path}: {' '.join(str(error).split())}") from error


def _of_tree(tree: Any, path: Path) -> list[ClassEntry]:
    if isinstance(tree, Mapping):
        for key in ("names", "classes", "categories", "labels"):
            if isinstance(tree.get(key), list | Mapping):
                return _of_tree(tree[key], path)
        if all(str(key).isdecimal() for key in tree):
            return [
                ClassEntry(str(name), int(key)) for key, name in sorted(tree.items(), key=lambda item: int(item[0]))
            ]
    if not isinstance(tree, list):
        raise UserError(f"{path} names no classes: it must hold a list of names, or names by their ids")
    return [_of_item(item, path) for item in tree]


def _of_item(item: Any, path: Path) -> ClassEntry:
    if not isinstance(item, Mapping):
        return ClassEntry(str(item))
    found = {str(key).lower(): value for key, value in item.items()}
    name, stored, colour = (
        next((found[key] for key in keys if key in found), None) for keys in (NAME_KEYS, ID_KEYS, COLOUR_KEYS)
    )
    if name is None:
        raise UserError(f"{path}: an entry has no name: {dict(item)}")
    shade = None if colour is None else parse_colour(colour, str(path))
    return ClassEntry(str(name), None if stored is None else _id(stored, path), shade)


def _id(given: Any, path: Path) -> int:
    text = str(given).strip()
    if isinstance(given, bool) or not text.removeprefix("-").isdecimal():
        raise UserError(f"{path}: the id {given!r} of a class is no integer")
    return int(text)
