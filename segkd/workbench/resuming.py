"""Folders that a command writes file by file and goes on with when it is started again: what they are of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segkd.errors import UserError
from segkd.files import replacing


def changed(path: Path, said: Mapping[str, Any]) -> tuple[str, Any] | None:
    """The first key in which a folder's JSON says otherwise, and what it says; None if all is the same.

    Raises:
        UserError: it cannot be read.
    """
    try:
        earlier = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read: it is damaged; take another folder, or delete this one") from error
    now = json.loads(json.dumps(said))
    return next(((key, earlier.get(key)) for key in now if earlier.get(key) != now[key]), None)


def write_said(path: Path, said: Mapping[str, Any]) -> None:
    """Write that JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(said, indent=1), encoding="utf-8")


def write_classes(path: Path, names: list[str]) -> None:
    """Write a list of classes, a name on each line, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
