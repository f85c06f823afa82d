"""What subcommands share: arguments, configs and runs, output, progress."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segkd.cli.paths import writable_file
from segkd.errors import UserError


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """The reader has gone: for `main` to know, where rich would exit with code 1."""
        raise BrokenPipeError


WIDE = 120  # columns of a table that goes to a file or a pipe, where no terminal says how wide it may be
console = _Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE)


def say(text: str, style: str | None = None) -> None:
    """Print a line as it is: brackets in paths are no markup, and long lines are not broken (they get copied)."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def say_columns(rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: str = "") -> None:
    """Print rows of text in columns, never cut (layer names get copied); ``right`` are the right-aligned ones."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [c.rjust(w) if k in right else c.ljust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))]
        say((indent + "  ".join(cells)).rstrip())


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


def add_json_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """--json FILE."""
    parser.add_argument("--json", type=writable_file, metavar="FILE", help=f"write {what} as JSON")


def add_threads_argument(parser: argparse.ArgumentParser) -> None:
    """--threads N."""
    parser.add_argument("--threads", type=positive, default=2, metavar="N", help="CPU threads (default 2)")


def load(args: argparse.Namespace) -> dict[str, Any]:
    """The config that the arguments name, with their overrides."""
    from segkd.training.configfile import load_config

    name, folder = args.config, Path(args.config)
    if folder.is_dir():
        if not (folder / "config.py").is_file():
            raise UserError(
                f"{folder} is no run folder (it holds no config.py); name a config file, see `segkd configs`"
            )
        name = str(folder / "config.py")
    overrides = ([f"data.dataset.root={args.data!r}"] if args.data else []) + args.overrides
    return load_config(name, overrides)


def default_run(config: str) -> Path:
    """Where a run goes unless --out says otherwise: ``work/<config name>``, or the run folder that gave the config."""
    from segkd.training.configfile import config_root, find_config

    if Path(config).is_dir():
        return Path(config)
    path = find_config(config).resolve()
    root = config_root().resolve()
    name = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return Path("work") / name.with_suffix("")


def default_size(cfg: Mapping[str, Any]) -> tuple[int, int]:
    """The size (H, W) of the config's training crops."""
    size = cfg["data"]["augment"].get("crop_size")
    if size is None:
        raise UserError("the config has no data.augment.crop_size; give the image size with --size HxW")
    return int(size[0]), int(size[1])


def parse_size(text: str) -> tuple[int, int]:
    """``HxW`` in pixels, at least 32 each."""
    height, sign, width = text.lower().partition("x")
    if not sign or not height.isdecimal() or not width.isdecimal() or min(int(height), int(width)) < 32:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write HxW in pixels, 32 or more each, e.g. 360x480")
    return int(height), int(width)


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return int(text)


def share(text: str) -> float:
    """A number in 0..1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number in 0..1")
    return value


def save_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write the command's result where --json says."""
    from segkd.report.tables import write_json

    if path:
        write_json(path, content)
        say(f"wrote {path}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return content


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Progress]:
    """A bar of ``total`` units on a terminal, nothing elsewhere; the task is number 0."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as bar:
        bar.add_task(title, total=total)
        yield bar
