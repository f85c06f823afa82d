"""Overriding any value of a config: ``schedule.steps=500`` from the command line, plain words for the usual ones."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from segkd.errors import UserError, nearest
from segkd.registry import resolve
from segkd.training.config import Config
from segkd.training.keys import key_sections

KEYS = tuple(one.name for one in fields(Config))
SPLITS = ("data.train", "data.val", "data.test")
OR_A_FILE = ("pretrained",)  # false, true, or text
TRAINED = ("network", "student")  # of a network alone, and beside a teacher
NAMED = ("model.binds", "model.supervision", "model.teachers")  # where a config chooses the names


#: words of the command line and of Python -> key
WORDS = {
    "root": "data.dataset.root",
    "lr": "optim.optimizer.lr",
    "batch": "data.batch_size",
    "workers": "data.workers",
    "unlabelled": "data.unlabelled",
    "size": "data.augment.crop_size",
    "steps": "schedule.steps",
    "epochs": "schedule.epochs",
    "device": "engine.device",
    "precision": "engine.precision",
    "seed": "seed",
}


def set_words(cfg: dict[str, Any], **words: Any) -> None:
    """Set the keys of ``WORDS`` in a config; None leaves one as it is. Of steps and epochs, one takes the other out."""
    if words.get("steps") is not None and words.get("epochs") is not None:
        raise UserError("steps and epochs: give one of them, they are the same length in two units")
    for word, value in words.items():
        if value is not None:
            for other in {"steps", "epochs"} - {word} if word in ("steps", "epochs") else ():
                cfg.setdefault("schedule", {}).pop(other, None)
            written = os.fspath(value) if isinstance(value, os.PathLike) else value
            set_value(cfg, WORDS[word], written, f"{word}={value!r}")


@cache
def optional_keys() -> dict[str, set[str]]:
    """The keys that a section may have beyond those a config spells out; * stands for a name that the config chose.

    Those of a class that the config chooses are not among them, but for the files of networks' weights: that class
    knows them.
    """
    found = {one.name: {key.name for key in one.keys} for one in key_sections() if not one.type}
    networks = ("network", "student", "teacher", "teachers.*")
    return found | {f"model.{name}": {"weights", "init", "bands"} for name in networks}


def override(cfg: dict[str, Any], text: str) -> None:
    """Apply one ``a.b.c=value``; the value is read as Python, else as text. A name that cannot exist is an error."""
    key, sign, raw = text.partition("=")
    if not sign or not key:
        raise UserError(f"override {text!r} is not of the form key.sub=value")
    set_value(cfg, key, _value(raw), f"override {text!r}")


def set_value(cfg: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set ``a.b.c`` of a config, as ``override`` does; ``source`` is named where the value is of a wrong kind.

    The network that is trained may be called ``model.network`` or ``model.student``, with and without a teacher;
    ``data.root`` is ``data.dataset.root``.
    """
    *parents, leaf = _with_trained(cfg, key.split("."))
    node: Any = cfg
    for depth, part in enumerate(parents):
        node = _step(cfg, node, part, ".".join(parents[:depth]))
    here = ".".join(parents)
    place: Any = leaf
    if isinstance(node, list):
        place = _position(node, leaf, here)
    elif not (here in NAMED and isinstance(value, Mapping)):
        _check_name(cfg, node, leaf, here)
    old = node[place] if isinstance(node, list) else node.get(leaf)
    if not (leaf in OR_A_FILE and isinstance(value, bool | str)) and not _fits(old, value):
        raise UserError(f"{source}: {key} is {_show(old)}, and {value!r} is no value of that kind")
    node[place] = value


def _with_trained(cfg: Mapping[str, Any], parts: list[str]) -> list[str]:
    """The same path, with the network that is trained by the name that it has in this config, and data.root in full."""
    if parts == ["data", "root"]:
        return WORDS["root"].split(".")
    model = cfg.get("model")
    if len(parts) < 3 or parts[0] != "model" or parts[1] not in TRAINED or not isinstance(model, Mapping):
        return parts
    names = [name for name in TRAINED if name in model]
    return ["model", *names, *parts[2:]] if len(names) == 1 else parts


def _step(cfg: dict[str, Any], node: Any, part: str, here: str) -> Any:
    """One level down; a section that may be there but is not is made."""
    if isinstance(node, list):
        return node[_position(node, part, here)]
    if not isinstance(node, dict) or node.get(part) is None:
        _check_name(cfg, node, part, here)
        node[part] = {}
    return node[part]


def _position(node: list[Any], part: str, here: str) -> int:
    if not part.isdecimal() or int(part) >= len(node):
        raise UserError(f"{here!r} is a list of {len(node)}; {part!r} is no position in it")
    return int(part)


def _check_name(cfg: dict[str, Any], node: Any, name: str, here: str) -> None:
    """A new key may enter only where it means something: in a known section, or as an argument of a ``type``.

    The arguments of a split go to the type of ``data.dataset``.
    """
    if not isinstance(node, dict):
        raise UserError(f"the config value {here!r} is {_show(node)}, which has no {name!r} inside")
    known = set(node).union(*(keys for pattern, keys in optional_keys().items() if _matches(here, pattern)))
    kind = node.get("type", cfg.get("data", {}).get("dataset", {}).get("type") if here in SPLITS else None)
    if isinstance(kind, str) and "." not in kind:
        return  # a registered name, known only to what builds it: that checks the arguments
    if kind is not None:
        parameters = inspect.signature(resolve(kind)).parameters
        known |= set(parameters)
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return
    if known and name not in known:
        raise UserError(f"the config has no {'.'.join(filter(None, (here, name)))!r}; {nearest(name, known)}")


def _matches(here: str, pattern: str) -> bool:
    return fnmatchcase(here, pattern) and here.count(".") == pattern.count(".")


def _fits(old: Any, new: Any) -> bool:
    """Whether a value may take another's place: a number for a number, a pair for a pair; anything for nothing."""
    if old is None or new is None:
        return True
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    if isinstance(old, (int, float)):
        return isinstance(new, (int, float))
    if isinstance(old, Mapping) or isinstance(new, Mapping):
        return isinstance(old, Mapping) and isinstance(new, Mapping)
    if _is_text(old):  # a tap may become a list of taps, and back
        return _is_text(new) or (isinstance(new, (list, tuple)) and all(map(_is_text, new)))
    if isinstance(old, (list, tuple)) and old:
        if not isinstance(new, (list, tuple)):
            return _is_text(old[0]) and _is_text(new)
        alike = len(new) == len(old) and all(map(_fits, old, new))  # ("scale", 0.5) and ("kernel", 2)
        return alike or all(_fits(old[0], x) for x in new)
    return True


def _is_text(value: Any) -> bool:
    """Text, or a class, which an override gives by its name."""
    return isinstance(value, str) or inspect.isclass(value)


def _show(value: Any) -> str:
    return value.__name__ if inspect.isclass(value) else repr(value)


def _value(raw: str) -> Any:
    """``dict(a=1)`` means the same as ``{"a": 1}``, and ``1/255`` a number, as in a config file."""
    try:
        tree = _Dicts().visit(ast.parse(raw.strip(), mode="eval"))
        return ast.literal_eval(tree)
    except (ValueError, SyntaxError):
        lowered = raw.strip().lower()
        return {"true": True, "false": False, "none": None, "null": None}.get(lowered, raw)


class _Dicts(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """A fraction of two numbers, as 1/255."""
        over, under = node.left, node.right
        if (
            not isinstance(node.op, ast.Div)
            or not isinstance(over, ast.Constant)
            or not isinstance(under, ast.Constant)
        ):
            return node
        if not all(type(side.value) in (int, float) for side in (over, under)) or not under.value:
            return node
        return ast.Constant(over.value / under.value)  # type: ignore[operator]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        keys: list[ast.expr | None] = [ast.Constant(k.arg) for k in node.keywords]
        if not isinstance(node.func, ast.Name) or node.func.id != "dict" or node.args:
            return node
        return ast.Dict(keys, [self.visit(k.value) for k in node.keywords])
