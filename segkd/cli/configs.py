"""``segkd configs``: what is shipped."""

from __future__ import annotations

import argparse
from typing import Any

from segkd.cli.common import console


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("configs", help="list the shipped configs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print each name with the first line of its docstring."""
    import ast

    from rich.table import Table

    from segkd.training.configfile import config_root, shipped

    table = Table(box=None, show_header=False)
    for name in shipped():
        text = (config_root() / f"{name}.py").read_text(encoding="utf-8")
        table.add_row(f"[bold]{name}[/]", (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0])
    console.print(table)
