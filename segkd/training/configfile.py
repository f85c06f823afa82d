"""Config files: found by path or by run folder; read, overridden value by value, written back."""

from __future__ import annotations

import inspect
import math
import os
import pprint
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import segkd
from segkd.errors import UserError, first_line
from segkd.files import replacing
from segkd.registry import description
from segkd.training.config import Config
from segkd.training.overrides import KEYS, override, set_words
from segkd.training.values import folders

CONFIG = "config.py"
#: folder of shipped parts -> the flags that name one
KINDS = {
    "networks": "--student {} --data NAME",
    "data": "--student NAME --data {}",
    "recipes": "--student NAME --teacher TEACHER --recipe {} --data NAME",
    "schedules": "--student NAME --data NAME --schedule {}",
}

PACKAGE = Path(segkd.__file__).resolve().parent


def config_root() -> Path:
    """The folder of the shipped parts of configs: inside the installed package, or beside it in a checkout."""
    inside = PACKAGE / "_configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def parts(kind: str) -> list[str]:
    """The names of the shipped parts of a kind (``KINDS``)."""
    return sorted(file.stem for file in (config_root() / kind).glob("*.py") if not file.name.startswith("_"))


def find_config(name: str | Path) -> Path:
    """The file of a config given by its path or by its run folder.

    Raises:
        UserError: there is none; with the flags that compose it for the name of a shipped part, or of a config as they
            were called before there were parts.
    """
    path = Path(name)
    if path.is_file() and path.resolve().parent.parent != config_root().resolve():
        return path
    if path.is_dir() and (path / CONFIG).is_file():
        return path / CONFIG
    if flags := _flags(path):
        raise UserError(f"{str(name)!r} is no config of its own: it is composed, by {flags}")
    if path.is_dir():
        raise UserError(f"{path} is no run folder (it holds no {CONFIG}); name a config file, see `segkd configs`")
    raise UserError(
        f"no config {str(name)!r}: neither a file nor a run folder; see `segkd configs` for what composes one"
    )


def _flags(path: Path) -> str:
    """The flags that compose a run with a shipped part, or what a config of an earlier release was; "" for others."""
    name, above = path.stem, path.parts[-3:-1]
    gpu = " --schedule gpu" if name.endswith("_gpu") else ""
    name = name.removesuffix("_gpu")
    if above and above[0] in ("students", "teachers"):
        return f"--student {name} --data {above[-1]}{gpu}"
    if above and above[0] == "distill":
        student, recipe = ("fasterseg", "fasterseg") if name == "fasterseg_kd" else ("fast_scnn", name[10:])
        return f"--student {student} --teacher TEACHER --recipe {recipe} --data {above[-1]}{gpu}"
    kinds = [kind for kind in KINDS if path.parent.name in ("", kind) and name in parts(kind)]
    return f"{KINDS[kinds[0]].format(name)}; `segkd configs` lists all parts" if kinds else ""


def load_config(name: str | Path, overrides: Sequence[str] = (), **words: Any) -> dict[str, Any]:
    """Read a config into plain dictionaries and apply plain words (``WORDS``), then ``key.sub=value`` overrides.

    A config file is Python and runs when it is read. Modules beside it, and those in the working directory, can be
    imported by it, and by those that go on with its run.

    Raises:
        UserError: no such config; one that raises (with its file and line); an unknown key, or a value of a wrong kind.
    """
    path = find_config(name)
    own = [str(path.resolve().parent)]
    can_import([*own, os.getcwd()])
    content = read_variables(path)
    _check_names(content, path)
    cfg = {key: content[key] for key in KEYS if key in content}
    can_import(folders(cfg.get("imports", ()), "imports"))
    if path.name != CONFIG:
        cfg["imports"] = [*cfg.get("imports", ()), *own]
    for key in ("model", "data", "optim", "schedule"):
        if key not in cfg:
            raise UserError(f"config {path} has no {key!r}")
    set_words(cfg, **words)
    for text in overrides:
        override(cfg, text)
    try:
        Config.of(cfg)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return cfg


def read_variables(path: Path) -> dict[str, Any]:
    """All variables of a config file."""
    from mmengine.config import Config as File  # here: a run from Python reads no file

    try:
        found: dict[str, Any] = plain(File.fromfile(str(path)))
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"cannot read config {path}, line {error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        own = [frame for frame in frames if not {"mmengine", "<frozen codecs>"} & set(Path(frame.filename).parts)]
        at = f"{own[-1].filename}, line {own[-1].lineno}" if own else str(path)
        raise UserError(f"cannot read config {at}: {type(error).__name__}: {first_line(error)}") from error
    return found


def can_import(folders: Iterable[str]) -> None:
    """Put folders at the end of the import path, where they shadow nothing."""
    sys.path.extend(dict.fromkeys(folder for folder in folders if folder not in sys.path))


def _check_names(cfg: Mapping[str, Any], path: Path) -> None:
    """A config may hold helper variables of any name, but none that looks like a misspelt key."""
    for name in sorted(set(cfg) - set(KEYS)):
        close = get_close_matches(name, KEYS, n=1, cutoff=0.8)
        if close and not inspect.isclass(cfg[name]):
            raise UserError(f"config {path} sets {name!r}; did you mean {close[0]!r}?")


def plain(value: Any) -> Any:
    """mmengine's config objects as plain dictionaries, lists and classes."""
    if isinstance(value, Mapping) or hasattr(value, "_cfg_dict"):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(v) for v in value)
    return value


def textual(value: Any) -> Any:
    """A config's values as a file can hold them: classes by their dotted paths, objects by what they were made of.

    What no file can hold, an object of unknown making or a class that no module has, becomes ``dict(type=unwritten,
    what=...)``, which is refused where it would be built.
    """
    if isinstance(value, Mapping):
        if value.get("type") is not None and not _can_write(value["type"]):
            return _unwritten(value["type"])
        return {k: textual(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(textual(v) for v in value)
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"{value.__module__}.{value.__qualname__}" if _can_write(value) else _unwritten(value)
    if type(value) in LITERAL:
        return value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # arrays, tensors, and numbers of theirs
        return value.tolist()
    made_of = description(value)
    written = textual(made_of) if made_of is not None else _unwritten(value)
    return _unwritten(value) if any(map(_is_unwritten, (written, *written.values()))) else written


LITERAL = (bool, int, float, str, bytes, type(None), set, range)
UNWRITTEN = f"{__name__}.unwritten"


def unwritten(what: str) -> None:
    """What stands in a run's config for an object that no file can hold.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"{what} was given from Python and is in no file: give it again there (segkd.load(run, network=...), or "
        "segkd.train with resume=True), or let the config name a class of a module"
    )


def objects_unwritten(written: Any, at: str = "") -> Iterator[str]:
    """What a config that went through ``textual`` could not hold: ``model.network: the ToyNet object``."""
    if _is_unwritten(written):
        yield f"{at}: {written['what']}"
    elif isinstance(written, Mapping | list | tuple):
        items = written.items() if isinstance(written, Mapping) else enumerate(written)
        for key, value in items:
            yield from objects_unwritten(value, f"{at}.{key}".removeprefix("."))


def _can_write(kind: Any) -> bool:
    """Whether another process can import a class or function by its dotted path; a name is taken as it is."""
    if isinstance(kind, str):
        return True
    module, name = getattr(kind, "__module__", "__main__"), getattr(kind, "__qualname__", "")
    return module != "__main__" and getattr(sys.modules.get(module), name, None) is kind


def _unwritten(value: Any) -> dict[str, str]:
    named = inspect.isclass(value) or inspect.isfunction(value)
    what = f"{value.__qualname__} of {value.__module__}" if named else f"the {type(value).__name__} object"
    return {"type": UNWRITTEN, "what": what}


def _is_unwritten(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("type") == UNWRITTEN


def differences(old: Mapping[str, Any], new: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, old value, new value) for every value that is not the same in both; None for one that is missing."""
    for key in dict.fromkeys([*old, *new]):
        a, b = textual(old.get(key)), textual(new.get(key))
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from differences(a, b, f"{above}{key}.")
        elif a != b:
            yield f"{above}{key}", a, b


def dump_config(cfg: Mapping[str, Any], path: Path) -> None:
    """Write a config as a Python file that ``load_config`` reads back to the same values."""
    lines = [
        f"{key} = {pprint.pformat(_finite(textual(value)), width=110, sort_dicts=False)}\n"
        for key, value in cfg.items()
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


class _Float(float):
    """A number that is not finite, as Python reads it."""

    def __repr__(self) -> str:
        return f"float('{float.__repr__(self)}')"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_finite(v) for v in value)
    return _Float(value) if isinstance(value, float) and not math.isfinite(value) else value
