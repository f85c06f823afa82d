"""``segkd configs``: the parts that compose a run, and the keys that a config may have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segkd.cli.common import console, say
from segkd.errors import UserError
from segkd.files import replacing, writable_file

PAGE = "configs/KEYS.md"


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "configs", help="list the parts that compose a run, or the keys that a config may have"
    )
    parser.add_argument("--keys", action="store_true", help="list every key: type, unit, default, what it means")
    parser.add_argument(
        "--markdown",
        type=writable_file,
        metavar="FILE",
        nargs="?",
        const=Path(PAGE),
        help=f"with --keys: write them as a page (default {PAGE})",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the parts, or the keys."""
    if args.markdown and not args.keys:
        raise UserError("--markdown writes the page of all keys: add --keys")
    if args.keys:
        _keys(args.markdown)
    else:
        _shipped()


def _keys(markdown: Path | None) -> None:
    from segkd.report.keys import keys_markdown, keys_text
    from segkd.training.keys import key_sections

    if markdown:
        with replacing(markdown) as temporary:
            temporary.write_text(keys_markdown(key_sections()), encoding="utf-8")
        say(f"wrote {markdown}")
    else:
        for line in keys_text(key_sections(), console.width):
            console.print(line, soft_wrap=True)


def _shipped() -> None:
    """Print the parts of each kind with the first line of their docstrings, under the flags that name one."""
    import ast

    from rich.table import Table

    from segkd.training.configfile import KINDS, config_root, parts

    for kind, flags in KINDS.items():
        say(f"{kind}: {flags.format('NAME' if kind == 'data' else kind[:-1].upper())}", style="bold")
        table = Table(box=None, show_header=False)
        for name in parts(kind):
            text = (config_root() / kind / f"{name}.py").read_text(encoding="utf-8")
            table.add_row(f"[bold]{name}[/]", (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0])
        console.print(table)
