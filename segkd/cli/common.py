"""What subcommands share: arguments, configs and runs, progress."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segkd.errors import UserError

console = Console()


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, --data and --set."""
    parser.add_argument(
        "config", metavar="CONFIG", help="a config file, a shipped name (see `segkd configs`), or a run folder"
    )
    parser.add_argument("--data", metavar="ROOT", help="root folder of the data set (data.dataset.root)")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override any config value, e.g. --set schedule.steps=500 (may be repeated)",
    )


def load(args: argparse.Namespace) -> dict[str, Any]:
    """The config that the arguments name, with their overrides."""
    from segkd.engine.config import load_config

    name = str(Path(args.config) / "config.py") if Path(args.config).is_dir() else args.config
    overrides = ([f"data.dataset.root={args.data!r}"] if args.data else []) + args.overrides
    return load_config(name, overrides)


def default_run(config: str) -> Path:
    """``work/<config name>``: where a run goes unless --out says otherwise."""
    from segkd.engine.config import config_root, find_config

    path = find_config(config).resolve()
    root = config_root().resolve()
    name = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return Path("work") / name.with_suffix("")


def parse_size(text: str) -> tuple[int, int]:
    """``HxW`` in pixels, at least 32 each."""
    height, sign, width = text.lower().partition("x")
    if not sign or not height.isdigit() or not width.isdigit() or min(int(height), int(width)) < 32:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write HxW in pixels, 32 or more each, e.g. 360x480")
    return int(height), int(width)


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return int(text)


def save_json(path: str | Path | None, content: Mapping[str, Any]) -> None:
    """Write the command's result where --json says."""
    from segkd.report.tables import write_json

    if path:
        write_json(path, content)
        console.print(f"wrote {path}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return content


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Progress]:
    """A bar of ``total`` units; the task is number 0."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        bar.add_task(title, total=total)
        yield bar
