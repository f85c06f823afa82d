"""Where a data set lies on disk: its root found, the splits that text files list, and mistakes about either named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segkd.datasets.files import FilePairs, LabelReader, existing_root
from segkd.errors import UserError

DEEPEST = 2  # folders below a wrong root that are looked into for the right one
MOST = 200  # of them


def find_root(
    root: str | Path, source: str, needed: Sequence[str], inside: Sequence[str] = (), others: Sequence[str] = ()
) -> Path:
    """The folder that holds all of ``needed``: the root, or one of ``inside`` it.

    Args:
        root: what the user named.
        source: how messages call the data set.
        needed: paths that must be there, such as ``leftImg8bit``.
        inside: what the folder is called within its archive, such as ``VOCdevkit/VOC2012``.
        others: paths that make up another layout, for the message.

    Raises:
        UserError: no such folder; what it lacks, and where that is found close by.
    """
    folder = existing_root(root, source)
    for place in (folder, *(folder / name for name in inside)):
        if all((place / name).exists() for name in needed):
            return place
    wanted = " and ".join(f"{name}/" if not Path(name).suffix else name for name in needed)
    either = "".join(f", or {' and '.join(f'{name}/' for name in others)}" if others else "")
    lacking = next(name for name in needed if not (folder / name).exists())
    near = _near(folder, needed)
    hint = f"; it is in {near}: give that as the root" if near else ""
    raise UserError(f"{source}: {folder} has no {lacking} (the root holds {wanted}{either}){hint}")


def _near(folder: Path, needed: Sequence[str]) -> Path | None:
    """A folder above or below that holds all that is needed."""
    places = [*folder.resolve().parents[:DEEPEST]]
    level = [folder]
    for _ in range(DEEPEST):
        level = [entry for above in level for entry in _folders(above)][:MOST]
        places += level
    return next((place for place in places if all((place / name).exists() for name in needed)), None)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:  # one that may not be read
        return []


def read_names(listing: Path, source: str, words: bool = True) -> list[str]:
    """The names in a text file, one on each line: the first word of it, or all of it.

    Raises:
        UserError: a file that is missing, holds no name, or one twice.
    """
    try:
        lines = listing.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(f"{source}: cannot read the list of the split, {listing} ({reason})") from error
    names = [line.split()[0] if words else line.strip() for line in lines if line.strip()]
    if not names:
        raise UserError(f"{source}: {listing} lists nothing")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{source}: {listing} lists {twice!r} twice")
    return names


class ListedPairs(FilePairs):
    """A data set of files some of whose names are a split.

    Args:
        names: the split.
        images, labels: for each side, where its files may lie: folders, with what follows the name in a file's name.
        reader, source, check: see ``FilePairs``.
    """

    def __init__(
        self,
        names: Sequence[str],
        images: Sequence[tuple[Path, str]],
        labels: Sequence[tuple[Path, str]],
        reader: LabelReader,
        source: str,
        check: bool = True,
    ) -> None:
        image_files, label_files = (_found(names, places, source) for places in (images, labels))
        if absent := [name for name in names if name not in image_files and name not in label_files]:
            more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            folders = " and ".join(str(folder) for folder, _ in (*images, *labels))
            raise UserError(f"{source}: {absent[0]!r} is listed{more}, but {folders} have no such file")
        super().__init__(image_files, label_files, reader, source, check)


def _found(names: Sequence[str], places: Sequence[tuple[Path, str]], source: str) -> dict[str, Path]:
    """name -> the first file that is there, for the names that have one; a missing folder is a UserError."""
    found: dict[str, Path] = {}
    for folder, ending in places:
        if not folder.is_dir():
            raise UserError(f"{source}: folder not found: {folder}")
        there = {file.name for file in folder.iterdir()}
        found = {name: folder / f"{name}{ending}" for name in names if f"{name}{ending}" in there} | found
    return found
