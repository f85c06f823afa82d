"""The keys of a config, for the terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import NamedTuple

from rich.text import Text

REQUIRED = "required"


class Key(NamedTuple):
    """One key of a config.

    Attributes:
        name: within its section.
        type: what it takes, in words ("int", "str or dict").
        default: as Python writes it, or "required".
        unit: of a number, or "".
        doc: what it means.
    """

    name: str
    type: str
    default: str
    unit: str
    doc: str


class KeySection(NamedTuple):
    """The keys that stand together at one place of a config.

    Attributes:
        name: the place, ``model.binds.*``; a star stands for a name that the config chooses, "" is the whole config.
        type: the class whose arguments they are, where the config chooses it; else "".
        doc: what the section is.
        keys: in the order in which they are best read.
    """

    name: str
    type: str
    doc: str
    keys: Sequence[Key]

    @property
    def title(self) -> str:
        """The place and the class."""
        return (self.name or "config") + (f" (type={self.type})" if self.type else "")


def keys_text(sections: Sequence[KeySection], width: int) -> Iterator[Text]:
    """The sections for a terminal of any width: each key with type, unit and default, below it what it means."""
    for section in sections:
        yield Text(_wrapped(f"{section.title}: {section.doc}", width, ""), style="bold")
        for key in section.keys:
            unit = f" in {key.unit}" if key.unit else ""
            default = key.default if key.default == REQUIRED else f"default {key.default}"
            yield Text(_wrapped(f"{key.name}: {key.type}{unit}, {default}", width, "  "), style="cyan")
            yield Text(_wrapped(key.doc, width, "      "))
        yield Text()


def _wrapped(text: str, width: int, indent: str) -> str:
    return fill(text.replace("`", ""), width, initial_indent=indent, subsequent_indent=indent)


def keys_markdown(sections: Sequence[KeySection]) -> str:
    """The sections as a page, a table each."""
    return "\n".join([_INTRODUCTION, *(_section(section) for section in sections)])


_INTRODUCTION = """# The keys of a config

Written by `segkd configs --keys --markdown`. A config is a Python file: each key of the first table is a variable of
it, each further table the keys of a dictionary in it, at the place that its title names; `*` stands for a name that the
config chooses. Any value can be overridden as `--set schedule.steps=500`. `type=` takes a class, its dotted path, or a
registered name; the other keys beside it are the arguments of that class, and its docstring explains them.
"""


def _section(section: KeySection) -> str:
    lines = [f"## {section.title}\n\n{section.doc}.\n\n"]
    lines += ["| key | type | default | unit | meaning |\n", "|---|---|---|---|---|\n"]
    for key in section.keys:
        default = key.default if key.default == REQUIRED else f"`{key.default}`"
        cells = (f"`{key.name}`", key.type, default, key.unit, key.doc.replace("``", "`"))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(lines)
