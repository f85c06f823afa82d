"""Every key that a config may have, with what it means: the typed sections, and what stands inside of ``model``.

What the classes of a config say about their arguments is read from their text, so that no one waits for torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from segkd.report.keys import REQUIRED, Key, KeySection
from segkd.training.config import SECTIONS, Config, Data, Engine, Evaluation, Optim, Quantize, Schedule, Section, key

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class ClipGrad(Section):
    """The gradient's largest norm; a longer gradient is shortened."""

    name = "optim.clip_grad"
    max_norm: float = key("largest norm of the gradient of all parameters together")
    norm_type: float = key("order of the norm", 2.0)


@dataclass(frozen=True)
class Paramwise(Section):
    """Factors of learning rate and weight decay by kind of parameter, as mmengine names them."""

    name = "optim.paramwise"
    custom_keys: Mapping[str, Any] | None = key(
        "{part of a name: dict(lr_mult=..., decay_mult=...)}; it goes first", None
    )
    bias_lr_mult: float | None = key("learning rate of biases, but not of normalisations", None)
    bias_decay_mult: float | None = key("weight decay of biases", None)
    norm_decay_mult: float | None = key("weight decay of normalisations; before that of biases", None)
    dwconv_decay_mult: float | None = key("weight decay of depthwise convolutions", None)
    flat_decay_mult: float | None = key("weight decay of all other vectors", None)


@dataclass(frozen=True)
class Term(Section):
    """One label-only term: the loss on the network's logits, or on an auxiliary head at a tap."""

    name = "model.supervision.*"
    tap: str | None = key("path of the layer that the head reads; by default the term sees the logits", None)
    head: Mapping[str, Any] | None = key("dict(type=AuxHead, ...); needed exactly where there is a tap", None)
    loss: Mapping[str, Any] | None = key("dict(type=...); cross entropy by default", None)
    weight: float = key("factor of the term", 1.0)
    stride: int = key("logits and label meet at 1/stride of the label's size", 1)
    gate: str | None = key("the term whose output a loss like BoundaryAwareCE gets, too", None)


@dataclass(frozen=True)
class FirstStage(Section):
    """A training before the main one."""

    name = "model.binds.*.first_stage"
    steps: int = key("length of the first stage", unit="steps")
    optimizer: Mapping[str, Any] = key("dict(type=..., lr=...), as optim.optimizer")


class Source:
    """The text of a class: what its docstring and its ``__init__`` say, read without importing it.

    Args:
        path: dotted path of a class of segkd's.
    """

    def __init__(self, path: str) -> None:
        module, _, name = path.rpartition(".")
        body = _body(module)
        (self.node,) = (node for node in body if isinstance(node, ast.ClassDef) and node.name == name)
        self.doc = ast.get_docstring(self.node) or ""
        imported = [node.module or "" for node in body if isinstance(node, ast.ImportFrom)]
        above = (_body(one) for one in imported if one.startswith("segkd."))
        self.constants = {k: v for nodes in (*above, body) for k, v in _constants(nodes).items()}

    def arguments(self) -> list[Key]:
        """What ``__init__`` takes, in the order in which the docstring explains them; the unexplained last."""
        (init,) = (n for n in self.node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
        defaults = [REQUIRED] * (len(init.args.args) - len(init.args.defaults)) + [
            self.constants.get(text, text) for text in map(ast.unparse, init.args.defaults)
        ]
        docs = self._explained()
        place = {name: number for number, name in enumerate(docs)}
        found = [
            Key(a.arg, in_words(ast.unparse(a.annotation) if a.annotation else "Any"), default, "", docs.get(a.arg, ""))
            for a, default in zip(init.args.args, defaults, strict=True)
            if a.arg != "self"
        ]
        return sorted(found, key=lambda one: place.get(one.name, len(place)))

    def _explained(self) -> dict[str, str]:
        """The paragraphs of the docstring's Args, one for several arguments at each of them."""
        body = re.split(r"\n(?=\S)", self.doc.partition("Args:\n")[2])[0]
        found = {}
        for paragraph in re.split(r"\n(?= {4}\S)", "\n" + body)[1:]:
            names, _, doc = " ".join(paragraph.split()).partition(": ")
            found.update(dict.fromkeys(names.split(", "), doc.rstrip(".")))
        return found


def _body(module: str) -> list[ast.stmt]:
    """The statements of a module of segkd's, which is not imported."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8")).body


def _constants(body: list[ast.stmt]) -> dict[str, str]:
    """name -> value, of what a module assigns, as its text has it."""
    return {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in body if isinstance(node, ast.Assign)}


def in_words(annotation: str) -> str:
    """``int | None`` as "int", ``str | Mapping[str, Any]`` as "str or dict"."""
    parts = [part for part in re.split(r" \| (?![^\[]*\])", annotation) if part != "None"]
    words = {
        "Mapping": "dict",
        "Sequence": "list",
        "Any": "dict or object",
        **{one.__name__: "dict" for one in SECTIONS.values()},
    }
    return " or ".join(words.get(part.partition("[")[0], part) for part in parts)


@cache
def key_sections() -> tuple[KeySection, ...]:
    """All sections of a config, from the whole to the engine."""
    return (
        _typed(Config),
        _of_class("model", "segkd.segmentor.Segmentor", chosen=True),
        _of_class("model", "segkd.distiller.Distiller", chosen=True),
        _typed(Term),
        _of_class("model.binds.*", "segkd.binding.Bind"),
        _of_class("model.binds.*.schedule", "segkd.weight_schedule.WeightSchedule"),
        _typed(FirstStage),
        _typed(Data),
        _of_class("data.augment", "segkd.datasets.transforms.TrainTransform", chosen=True),
        _typed(Optim),
        _typed(ClipGrad),
        _typed(Paramwise),
        _typed(Schedule),
        _typed(Engine),
        _typed(Evaluation),
        _typed(Quantize),
    )


def _typed(kind: type[Section]) -> KeySection:
    keys = []
    for one in fields(kind):  # type: ignore[arg-type]
        default = REQUIRED if one.default is MISSING else repr(one.default)
        default = "dict()" if isinstance(one.default, Section) else default
        keys.append(Key(one.name, in_words(str(one.type)), default, one.metadata["unit"], one.metadata["doc"]))
    return KeySection(kind.name, "", _first_line(kind.__doc__ or ""), keys)


def _of_class(name: str, path: str, chosen: bool = False) -> KeySection:
    """The arguments of a class; ``chosen`` by the config's type, which may be another."""
    source = Source(path)
    return KeySection(name, source.node.name if chosen else "", _first_line(source.doc), source.arguments())


def _first_line(doc: str) -> str:
    return doc.partition("\n")[0].rstrip(".")
