"""Files of torch.export: what in them would run code when they are read is found first, and refused.

torch unpickles parts of such an archive, evaluates the text of its sizes, and loads machine code that may lie in it.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from segkd.errors import UserError, first_line

MACHINE_CODE = "/aotinductor/"
PICKLED = ("custom_obj", "opaque_obj")  # how torch calls objects beside tensors
#: the text of a size: numbers, 'names' of symbols, calls of SymPy's classes; no attribute, no function, no other text
SIZES = re.compile(r"([\w\s+\-*/%(),<>=!&|~^]|\.\d|'\w+')*")
FUNCTION = re.compile(r"__|\b[a-z_]\w*\s*\(")
ONLY_TENSORS = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def read_archive(file: Path) -> Any:
    """The ``ExportedProgram`` in a file of ``torch.export.save``.

    Raises:
        UserError: a file that cannot be read, or that holds more than a graph and tensors.
    """
    found = next(_code_in(file), None)
    if found is not None:
        raise UserError(f"{file} holds code beside its graph ({found}), which is not run; export the network anew")
    try:
        with _only_tensors():
            return torch.export.load(file)
    except Exception as error:  # whatever its reader raises
        raise UserError(f"cannot read {file} as torch.export wrote it: {first_line(error)}") from error


@contextmanager
def _only_tensors() -> Iterator[None]:
    """A context in which every torch.load refuses code, whatever its caller asks for."""
    before = os.environ.get(ONLY_TENSORS)
    os.environ[ONLY_TENSORS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[ONLY_TENSORS]
        else:
            os.environ[ONLY_TENSORS] = before


def _code_in(file: Path) -> Iterator[str]:
    """What in an archive is neither graph nor tensor."""
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if MACHINE_CODE in f"/{name}":
                yield name
            elif name.endswith(".json"):
                yield from _code_in_json(_content(archive, name, file))


def _content(archive: zipfile.ZipFile, name: str, file: Path) -> Any:
    try:
        return json.loads(archive.read(name))
    except ValueError as error:
        raise UserError(f"cannot read {file}: {name} in it is no JSON") from error


def _code_in_json(value: Any) -> Iterator[str]:
    """Names of pickled objects, and texts of sizes that are more than arithmetic."""
    if isinstance(value, list):
        for item in value:
            yield from _code_in_json(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            text = item if isinstance(item, str) else ""
            pickled = key == "path_name" and text.startswith(PICKLED)
            unsafe = key == "expr_str" and (not SIZES.fullmatch(text) or FUNCTION.search(text))
            if pickled or unsafe:
                yield text if len(text) <= 40 else text[:37] + "..."
            yield from _code_in_json(item)
