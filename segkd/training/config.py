"""Config files: found by path or by shipped name, read, overridden value by value, written back."""

from __future__ import annotations

import inspect
import pprint
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config

import segkd
from segkd.arguments import flag, whole
from segkd.errors import UserError, first_line, nearest
from segkd.files import replacing
from segkd.training.overrides import KEYS, OPTIONAL, SPLITS, override

PACKAGE = Path(segkd.__file__).resolve().parent
NEEDED = ("data.dataset", "data.augment", "optim.optimizer", "schedule.steps")
#: whole numbers, and the least that each may be
WHOLE = {
    "data.batch_size": 1, "data.workers": 0, "optim.accumulate": 1, "schedule.steps": 1, "schedule.val_interval": 1,
    "schedule.warmup": 0, "engine.threads": 1, "engine.log_interval": 1, "engine.gradient_interval": 0,
    "seed": 0,
}  # fmt: skip


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
    check_values(cfg, path)
    return cfg


def check_values(cfg: dict[str, Any], path: Path) -> None:
    """The sections that the engine reads: no unknown key, nothing missing, whole numbers where they must be.

    A whole number written as a float (1e3) becomes an int; one that is None, or a split, is as if it were not there.
    """
    for section, _, name in (key.rpartition(".") for key in (*WHOLE, *SPLITS)):
        node = _lookup(cfg, section) if section else cfg
        if isinstance(node, dict) and name in node and node[name] is None:
            del node[name]
    for section in ("data", "optim", "schedule", "engine"):
        known, content = OPTIONAL[section], cfg.get(section, {})
        if not isinstance(content, dict):
            raise UserError(f"config {path}: {section} must be a dictionary, got {content!r}")
        for key in sorted(set(content) - known):
            raise UserError(f"config {path} sets {section}.{key}, which means nothing; {nearest(key, known)}")
    for split in SPLITS:
        if not isinstance(content := cfg["data"].get(split.partition(".")[2], {}), dict):
            raise UserError(f"config {path}: {split} must be a dictionary of arguments, got {content!r}")
    for key in NEEDED:
        if _lookup(cfg, key) is None:
            raise UserError(f"config {path} has no {key}")
    for key, least in WHOLE.items():
        section, _, name = key.rpartition(".")
        node = _lookup(cfg, section) if section else cfg
        if isinstance(node, dict) and name in node:
            node[name] = whole(node[name], key, "config", least)

    if "channels_last" in cfg.get("engine", {}):
        flag(cfg["engine"]["channels_last"], "engine.channels_last", "config")


def _lookup(cfg: Mapping[str, Any], key: str) -> Any:
    """The value at ``a.b.c``, None if there is none."""
    node: Any = cfg
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


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


def textual(value: Any) -> Any:
    """Classes as dotted paths, so that a config can be written to a file and read back."""
    if isinstance(value, dict):
        return {k: textual(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(textual(v) for v in value)
    return f"{value.__module__}.{value.__qualname__}" if inspect.isclass(value) or inspect.isfunction(value) else value


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
    lines = [f"{key} = {pprint.pformat(textual(value), width=110, sort_dicts=False)}\n" for key, value in cfg.items()]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
