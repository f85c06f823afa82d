"""Config files: found by path or by shipped name, read, overridden value by value, written back."""

from __future__ import annotations

import ast
import inspect
import pprint
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config

import segkd
from segkd.errors import UserError, nearest
from segkd.files import replacing
from segkd.registry import resolve

PACKAGE = Path(segkd.__file__).resolve().parent
KEYS = ("model", "data", "optim", "schedule", "engine", "seed", "hooks", "calibration")


def config_root() -> Path:
    """The folder of the shipped configs: inside the installed package, or beside it in a checkout."""
    inside = PACKAGE / "_configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def shipped() -> list[str]:
    """Names of the shipped configs, relative to their folder and without ``.py`` (``distill/camvid/fast_scnn_cwd``)."""
    root = config_root()
    files = (p.relative_to(root) for p in root.rglob("*.py") if not p.name.startswith("__"))
    return sorted(str(p.with_suffix("")) for p in files if p.parts[0] != "_base_")


def find_config(name: str) -> Path:
    """A config by path, else by name among the shipped ones."""
    path = Path(name)
    if path.is_file():
        return path
    candidate = config_root() / Path(name.removeprefix("configs/")).with_suffix(".py")
    if candidate.is_file():
        return candidate
    raise UserError(f"no config {name!r}: neither a file nor a shipped name; {nearest(name, shipped())}")


def load_config(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a config into plain dictionaries and apply ``key.sub=value`` overrides."""
    path = find_config(name)
    try:
        cfg = plain(Config.fromfile(str(path)))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"cannot read config {path}: {type(error).__name__}: {first_line(error)}") from error
    _check_names(cfg, path)
    cfg = {key: cfg[key] for key in KEYS if key in cfg}
    for key in ("model", "data", "optim", "schedule"):
        if key not in cfg:
            raise UserError(f"config {path} has no {key!r}")
    for text in overrides:
        override(cfg, text)
    return cfg


def _check_names(cfg: Mapping[str, Any], path: Path) -> None:
    """A config may hold helper variables of any name, but none that looks like a misspelt key."""
    for name in sorted(set(cfg) - set(KEYS)):
        close = get_close_matches(name, KEYS, n=1, cutoff=0.8)
        if close and not inspect.isclass(cfg[name]):
            raise UserError(f"config {path} sets {name!r}; did you mean {close[0]!r}?")


def plain(value: Any) -> Any:
    """mmengine's config objects as plain dictionaries, lists and classes."""
    if isinstance(value, (Mapping, Config)):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(v) for v in value)
    return value


def override(cfg: dict[str, Any], text: str) -> None:
    """Apply one ``a.b.c=value``; the value is read as Python, else as text. A name that cannot exist is an error."""
    key, sign, raw = text.partition("=")
    if not sign or not key:
        raise UserError(f"override {text!r} is not of the form key.sub=value")
    *parents, leaf = key.split(".")
    node: Any = cfg
    for depth, part in enumerate(parents):
        node = _step(node, part, ".".join(parents[:depth]))
    here = ".".join(parents)
    if isinstance(node, list):
        node[_position(node, leaf, here)] = _value(raw)
        return
    dataset = cfg.get("data", {}).get("dataset", {}) if here in SPLITS else {}
    _check_leaf(node, leaf, here, dataset)
    node[leaf] = _value(raw)


def _step(node: Any, part: str, here: str) -> Any:
    if isinstance(node, list):
        return node[_position(node, part, here)]
    if not isinstance(node, dict) or part not in node:
        known = node.keys() if isinstance(node, dict) else ()
        raise UserError(f"the config has no {'.'.join(filter(None, (here, part)))!r}; {nearest(part, known)}")
    return node[part]


def _position(node: list[Any], part: str, here: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise UserError(f"{here!r} is a list of {len(node)}; {part!r} is no position in it")
    return int(part)


def _check_leaf(node: Any, leaf: str, here: str, dataset: Mapping[str, Any]) -> None:
    """A new key may enter only where it means something: as an argument of the ``type`` beside it, or at the top.

    The arguments of a split go to the type of ``dataset``.
    """
    if not isinstance(node, dict):
        raise UserError(f"the config value {here!r} is no dictionary")
    known = set(node) | OPTIONAL.get(here, set())
    cls = resolve(node.get("type", dataset.get("type")))
    if callable(cls):
        parameters = inspect.signature(cls).parameters
        known |= set(parameters)
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return
    if leaf not in known:
        raise UserError(f"the config has no {'.'.join(filter(None, (here, leaf)))!r}; {nearest(leaf, known)}")


SPLITS = ("data.train", "data.val", "data.test")
#: keys that a section may have beyond those that a config spells out
OPTIONAL: dict[str, set[str]] = {
    "": set(KEYS),
    "data": {"dataset", "train", "val", "test", "augment", "batch_size", "workers"},
    "optim": {"optimizer", "clip_grad", "accumulate", "paramwise"},
    "schedule": {"steps", "val_interval", "warmup", "power", "min_lr"},
    "engine": {"precision", "channels_last", "threads", "log_interval"},
}


def _value(raw: str) -> Any:
    try:
        return ast.literal_eval(raw)
    except (ValueError, SyntaxError):
        lowered = raw.strip().lower()
        return {"true": True, "false": False, "none": None, "null": None}.get(lowered, raw)


def textual(value: Any) -> Any:
    """Classes as dotted paths, so that a config can be written to a file and read back."""
    if isinstance(value, dict):
        return {k: textual(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(textual(v) for v in value)
    return f"{value.__module__}.{value.__qualname__}" if inspect.isclass(value) or inspect.isfunction(value) else value


def dump_config(cfg: Mapping[str, Any], path: Path) -> None:
    """Write a config as a Python file that ``load_config`` reads back to the same values."""
    lines = [f"{key} = {pprint.pformat(textual(value), width=110, sort_dicts=False)}\n" for key, value in cfg.items()]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def first_line(error: BaseException) -> str:
    """The first line of an exception's text."""
    text = str(error).strip()
    return text.splitlines()[0] if text else ""
