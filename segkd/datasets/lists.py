"""List files: which images a split has, and which label belongs to each; as VOC's text files, or as CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from segkd.errors import UserError
from segkd.files import replacing

#: our split -> what it is called
SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
COLUMNS = ("image", "label", "split")


class Entry(NamedTuple):
    """A line of a list: the image's name or path, the label's if it says one, the split if it says one."""

    image: str
    label: str | None
    split: str | None
    line: int


class SplitList(NamedTuple):
    """A list file and its entries."""

    path: Path
    entries: Sequence[Entry]


def split_of(word: str) -> str | None:
    """The split that a word stands for: "valid" for val, "train2017" for train; None for other words."""
    lowered = word.lower().rstrip("0123456789_-")
    return next((split for split, words in SPLIT_WORDS.items() if lowered in words), None)


def read_lists(place: Path) -> dict[str | None, SplitList]:
    """The lists by split, of a folder of ``train.txt``, ``val.txt``, ..., of one such file, or of a CSV.

    A list that is of no split is under None.

    Raises:
        UserError: no such file, none in the folder, a line that says nothing.
    """
    if place.is_dir():
        files = [file for file in sorted(place.iterdir()) if file.suffix.lower() in (".txt", ".csv")]
        named = {split_of(file.stem): file for file in files if split_of(file.stem)}
        chosen = named or ({None: files[0]} if len(files) == 1 else {})
        if not chosen:
            raise UserError(f"{place} holds no list: it must hold train.txt, val.txt (test.txt), or one CSV")
        found = {split: SplitList(file, _read(file)) for split, file in chosen.items()}
        _check_apart(list(found.values()))
        return found
    entries = _read(place)
    splits = list(dict.fromkeys(entry.split for entry in entries))
    if None in splits and len(splits) > 1:
        line = next(entry.line for entry in entries if entry.split is None)
        raise UserError(f"{place}, line {line}: no split, where other lines have one")
    return {split: SplitList(place, [entry for entry in entries if entry.split == split]) for split in splits}


def _check_apart(lists: Sequence[SplitList]) -> None:
    """A UserError for an image that two lists have: it would be scored on what it was trained with."""
    seen: dict[str, Path] = {}
    for one in lists:
        for entry in one.entries:
            if entry.image in seen:
                raise UserError(
                    f"{one.path}, line {entry.line}: {entry.image} is in {seen[entry.image]}, too; an image may be in "
                    "one split alone"
                )
            seen[entry.image] = one.path


def _read(path: Path) -> list[Entry]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise UserError(f"{path}: the list cannot be read ({reason})") from error
    entries = _of_csv(text, path) if path.suffix.lower() == ".csv" else _of_text(text, path)
    if not entries:
        raise UserError(f"{path} lists no image")
    lacking = [entry.line for entry in entries if entry.label is None]
    if 0 < len(lacking) < len(entries):
        raise UserError(f"{path}, line {lacking[0]}: no label, where other lines have one")
    seen: dict[str, int] = {}
    for entry in entries:
        if entry.image in seen:
            raise UserError(f"{path}, line {entry.line}: {entry.image} is listed in line {seen[entry.image]} already")
        seen[entry.image] = entry.line
    return entries


def _of_text(text: str, path: Path) -> list[Entry]:
    """Lines of ``image`` or ``image label``, parted by a tab or by blanks; a tab ends a name that holds blanks."""
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = [part.strip().rstrip(";") for part in (line.split("\t") if "\t" in line else line.split())]
        if len(fields) > 2:
            raise UserError(
                f"{path}, line {number}: {len(fields)} words; a line is an image, or an image and its label, parted by "
                "a tab where names hold blanks"
            )
        if fields:
            entries.append(Entry(fields[0], fields[1] or None if len(fields) == 2 else None, None, number))
    return entries


def _of_csv(text: str, path: Path) -> list[Entry]:
    rows = list(csv.reader(text.splitlines()))
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if "image" not in header:
        raise UserError(f"{path}: the first line must name the columns: image,label or image,label,split")
    place = {column: header.index(column) for column in COLUMNS if column in header}
    entries = []
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < len(header):
            raise UserError(f"{path}, line {number}: {len(row)} columns, the first line has {len(header)}")
        found = {column: row[at].strip() or None for column, at in place.items()}
        word = found.get("split")
        if found["image"] is None or (word is not None and split_of(word) is None):
            raise UserError(f"{path}, line {number}: it must have an image, and a split of train, val or test")
        entries.append(Entry(found["image"], found.get("label"), word and split_of(word), number))
    return entries


def locate(text: str, bases: Iterable[Path]) -> Path | None:
    """The file that a list means by a path: as it stands, or below one of some folders; None for none."""
    given = Path(text).expanduser()
    candidates = [given] if given.is_absolute() else []
    candidates += [base / text.lstrip("/") for base in bases]
    return next((path for path in candidates if path.is_file()), None)


def pick(entry: Entry, names: Mapping[str, Path], source: Path) -> str:
    """The name among the images of folders that an entry without a label means.

    Raises:
        UserError: there is none, with the list and the line.
    """
    text = entry.image.lstrip("/")
    for name in (text, os.path.splitext(text)[0], Path(text).name, Path(text).stem):
        if name in names:
            return name
    ends = [name for name in names if name.endswith("/" + Path(text).stem) or name == Path(text).stem]
    if len(ends) == 1:
        return ends[0]
    what = "two images are" if ends else "no image is"
    raise UserError(f"{source}, line {entry.line}: {what} called {entry.image!r} among those of the folder")


def write_list(path: Path, lines: Iterable[str]) -> None:
    """Write a list file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_pairs(path: Path, rows: Iterable[tuple[str, str, str | None]]) -> None:
    """Write a CSV of image, label and split (left out where no row has one), whole or not at all."""
    listed = list(rows)
    columns = COLUMNS if any(row[2] for row in listed) else COLUMNS[:2]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(row[: len(columns)] for row in listed)
