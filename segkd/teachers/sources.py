"""What a teacher's source means: its kind, its name and its file."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from segkd.datasets.answers import ABOUT
from segkd.errors import UserError, nearest
from segkd.models import Network, Preprocess
from segkd.models.statedict import read_state_dict
from segkd.registry import construct
from segkd.teachers.guess import suggestion

#: kind -> the module whose ``load`` opens it
KINDS = {
    "segkd": "segkd.teachers.runs",
    "smp": "segkd.teachers.smp",
    "torchvision": "segkd.teachers.torchvision",
    "timm": "segkd.teachers.timm",
    "hf": "segkd.teachers.hf",
    "mmseg": "segkd.teachers.mmseg",
    "onnx": "segkd.teachers.onnx",
    "torchscript": "segkd.teachers.programs",
    "export": "segkd.teachers.programs",
    "cache": "segkd.teachers.cached",
}
OWN = "own"  # a module of the user's
OWN_MODULE = "segkd.teachers.own"
HUB = "smp-hub/"
CONFIG, LIBRARY_CONFIG = "config.py", "config.json"
FORM = "KIND:NAME@FILE, such as smp:fpn/resnet18@w.pth"
OWN_NAME = re.compile(r"[A-Za-z_][\w.]*[:.][A-Za-z_]\w*")  # module:Class, module.Class
FILES = (".pth", ".pt", ".pt2", ".ckpt", ".bin", ".safetensors", ".onnx")


class Source(NamedTuple):
    """A teacher's source, taken apart: its kind, and a name, a file or folder, or both."""

    kind: str
    name: str | None
    file: Path | None


def open_source(
    source: str | Path, *, num_classes: int | None, preprocess: Preprocess | None, download: bool
) -> Network:
    """The network of a source with all of its own outputs, by the module of its kind."""
    kind, name, file = parse(source)
    module = import_module(OWN_MODULE if kind == OWN else KINDS[kind])
    network: Network = module.load(name, file, num_classes=num_classes, preprocess=preprocess, download=download)
    return network


def stated_preprocess(preprocess: Any) -> Preprocess | None:
    """The preprocessing that a user states as ``dict(mean=, std=, scale=, channels=)``."""
    if preprocess is None or isinstance(preprocess, Preprocess):
        return preprocess
    if not isinstance(preprocess, Mapping):
        raise UserError(f"preprocess is given as dict(mean=, std=, scale=, channels=), got {preprocess!r}")
    made: Preprocess = construct(Preprocess, preprocess)
    return made


def parse(source: str | Path) -> Source:
    """A source taken apart.

    Raises:
        UserError: neither a file or folder that says what it is, nor of the form ``KIND:NAME@FILE``.
    """
    text = str(source)
    if not text or text == ".":
        raise UserError(f"the teacher's source is empty; it is a folder, a file, or {FORM}")
    if Path(text).exists():
        return recognised(Path(text))
    kind, colon, rest = text.partition(":")
    if text.startswith(HUB):
        return Source("smp", text, None)
    if colon and kind in KINDS:
        return Source(kind, *_name_and_file(rest, text))
    name, file = _name_and_file(text, text)
    if name is None or not OWN_NAME.fullmatch(name) or name.endswith(FILES):
        if colon and "/" not in kind:
            raise UserError(f"no kind of teacher is called {kind!r}; {nearest(kind, KINDS)}")
        raise UserError(f"no teacher {text!r}: neither a file or folder that is there, nor {FORM}")
    return Source(OWN, name, file)


def _name_and_file(rest: str, text: str) -> tuple[str | None, Path | None]:
    """Take ``NAME@FILE`` apart, where either may be missing; what is there as a file counts as one."""
    if rest and Path(rest).exists():
        return None, Path(rest)
    name, at, file = rest.partition("@")
    if at and not Path(file).exists():
        raise UserError(f"teacher {text}: no such file: {file or '(no name)'}")
    if not name and not at:
        raise UserError(f"teacher {text!r} names nothing; the form is {FORM}")
    return name or None, Path(file) if at else None


def recognised(path: Path) -> Source:
    """The kind of a folder or file that says itself what it is."""
    if path.is_dir():
        return Source(_kind_of_folder(path), None, path)
    if path.suffix == ".onnx":
        return Source("onnx", None, path)
    if (path.parent / CONFIG).is_file():
        return Source("segkd", None, path)
    program = kind_of_program(path)
    if program is not None:
        return Source(program, None, path)
    if (path.parent / LIBRARY_CONFIG).is_file():
        return Source(_kind_of_folder(path.parent), None, path.parent)
    found = suggestion(read_state_dict(path), path)
    raise UserError(f"{path} does not say what it is: give it as KIND:NAME@FILE; {found}")


def _kind_of_folder(folder: Path) -> str:
    if (folder / CONFIG).is_file():
        return "segkd"
    if (folder / ABOUT).is_file():
        return "cache"
    if not (folder / LIBRARY_CONFIG).is_file():
        raise UserError(
            f"{folder} says not what it is: a run folder holds {CONFIG}, one of save_pretrained "
            f"{LIBRARY_CONFIG}, one of `segkd cache` {ABOUT}"
        )
    content = library_config(folder)
    return "smp" if "_model_class" in content or "encoder_name" in content else "hf"


def library_config(folder: Path) -> dict[str, Any]:
    """What a folder of ``save_pretrained`` says of its model."""
    file = folder / LIBRARY_CONFIG
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file}: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"cannot read {file}: it is no JSON object")
    return content


def kind_of_program(path: Path) -> str | None:
    """The kind of a file that holds a program of torch's beside its tensors: "torchscript", "export", or None."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(
        name.rpartition("/")[2] == "archive_format" or name.endswith("serialized_exported_program.json")
        for name in names
    ):
        return "export"
    return "torchscript" if any("/code/" in name for name in names) else None
