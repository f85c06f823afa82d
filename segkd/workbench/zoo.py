"""The released networks: which there are, where they lie, and how to get those that are not here.

A release is a folder ``NAME`` with ``config.py``, weights, an int8 file, scores and a card. It lies in ``models/`` of a
checkout, in the wheel (the demo's teacher alone), or in the folder of downloads: ``$SEGKD_MODELS``, by default
``~/.cache/segkd``. Nothing is downloaded unless
``download`` is called, and what it brings is held against the checksums that segkd was shipped with.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import segkd
from segkd.errors import UserError, first_line, nearest
from segkd.workbench import Progress, silent

FOLDER, PLACE = "SEGKD_MODELS", "SEGKD_ZOO"  # variables of the environment
TABLE = Path(__file__).with_name("released.json")
INT8, WEIGHTS = "student_int8.onnx", "student.pth"
CHUNK = 1 << 20
PATIENCE = 60  # seconds without an answer


class Release(NamedTuple):
    """A released network.

    name: of its folder.
    network: in ``segkd models``.
    data: data set, and the size (HxW) of its images.
    classes: how many.
    miou, split: percent, of the float32 weights on that split.
    int8_miou: the same of the int8 file; None without one.
    licence: of what it was trained on, in a few words.
    files: {file: sha256}.
    bytes: of all files.
    """

    name: str
    network: str
    data: str
    classes: int
    miou: float
    split: str
    int8_miou: float | None
    licence: str
    files: Mapping[str, str]
    bytes: int


@cache
def releases() -> dict[str, Release]:
    """All released networks by name, of the table that is shipped."""
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    return {row["name"]: Release(**row) for row in rows}


def place_of(name: str) -> Path | None:
    """The folder of a release, if it is here."""
    package = Path(segkd.__file__).resolve().parent
    for root in (package.parent / "models", package / "_models", downloads()):
        if (root / name / "config.py").is_file():
            return root / name
    return None


def downloads() -> Path:
    """The folder that downloads go to."""
    given = os.environ.get(FOLDER)
    return Path(given).expanduser() if given else Path.home() / ".cache" / "segkd"


def find_release(name: str, file: str | None = None) -> Path:
    """The folder of a release, or a file in it.

    Raises:
        UserError: no such release, with the nearest; one that is not here, with the command that gets it.
    """
    _release(name)
    folder = place_of(name)
    if folder is None:
        raise UserError(
            f"the released network {name} is not on this machine: segkd models --download {name} --from URL|DIR gets it"
        )
    if file is None:
        return folder
    if not (folder / file).is_file():
        raise UserError(f"the released network {name} has no {file}: {folder} lacks it")
    return folder / file


def resolve_release(source: str | Path, file: str) -> str:
    """A file of a release, where its name is given and nothing that is there has that name; else the source itself."""
    named = str(source) in releases() and not Path(source).exists()
    return str(find_release(str(source), file)) if named else str(source)


def download(name: str, source: str | None = None, progress: Progress = silent) -> Path:
    """Get a release, check it, and put it into the folder of downloads; returns its folder.

    Args:
        name: of the release.
        source: where its folder lies: a URL (``https://host/models``) or a folder; by default ``$SEGKD_ZOO``.
        progress: told of the files.

    Raises:
        UserError: no source, an answer that is none, a file with another checksum; nothing is left behind then.
    """
    files = _release(name).files
    source = source or os.environ.get(PLACE)
    if not source:
        raise UserError(f"say where from: --from URL|DIR, or {PLACE} in the environment")
    target = downloads() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as beside:
        folder = Path(beside) / name
        folder.mkdir()
        for number, (file, digest) in enumerate(files.items()):
            progress(f"getting {name}", number, len(files))
            found = hashlib.sha256()
            with (folder / file).open("wb") as written:
                for chunk in _read(f"{source.rstrip('/')}/{name}/{file}"):
                    found.update(chunk)
                    written.write(chunk)
            if found.hexdigest() != digest:
                raise UserError(f"{source}/{name}/{file} is not the released file: its checksum differs")
        if target.exists():
            shutil.rmtree(target)
        folder.rename(target)  # whole, or not there
    return target


def _release(name: str) -> Release:
    """What the table says of a network."""
    if name not in releases():
        raise UserError(f"no released network is called {name!r}; {nearest(name, releases())}")
    return releases()[name]


def _read(place: str) -> Iterator[bytes]:
    """The bytes of a file, or of what a URL answers with."""
    try:
        if "://" not in place:
            with Path(place).expanduser().open("rb") as stream:
                yield from iter(lambda: stream.read(CHUNK), b"")
            return
        with urllib.request.urlopen(place, timeout=PATIENCE) as answer:
            yield from iter(lambda: answer.read(CHUNK), b"")
    except (OSError, ValueError) as error:  # an answer of an error code, no answer, no such file, no URL
        raise UserError(f"cannot read {place}: {first_line(error)}") from error
