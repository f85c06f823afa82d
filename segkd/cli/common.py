"""What subcommands share: arguments, configs and runs, output, progress."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segkd.cli.streams import naming_output
from segkd.errors import UserError
from segkd.files import writable_file

if TYPE_CHECKING:
    from segkd.workbench import Progress as Follow


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does."""
        with naming_output():
            super().print(*objects, **options)

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
    """Add CONFIG, --data and --set."""
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
    """Add --json FILE."""
    parser.add_argument("--json", type=writable_file, metavar="FILE", help=f"write {what} as JSON")


def add_threads_argument(parser: argparse.ArgumentParser) -> None:
    """Add --threads N."""
    parser.add_argument("--threads", type=thread_count, default=2, metavar="N", help="CPU threads (default 2)")


def load(args: argparse.Namespace) -> dict[str, Any]:
    """The config that the arguments name, with their overrides."""
    from segkd.workbench.runs import open_run

    return open_run(args.config, args.data, args.overrides)


def default_run(config: str) -> Path:
    """The folder of a run unless --out names one: ``work/<config name>``, or the run folder that gave the config."""
    from segkd.workbench.runs import default_folder

    return default_folder(config)


def parse_size(text: str) -> tuple[int, int]:
    """A size ``HxW`` in pixels, at least 32 each, as (H, W)."""
    height, sign, width = text.lower().partition("x")
    if not sign or not height.isdecimal() or not width.isdecimal() or min(int(height), int(width)) < 32:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write HxW in pixels, 32 or more each, e.g. 360x480")
    return int(height), int(width)


def positive(text: str) -> int:
    """An integer from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer from 1 up")
    return int(text)


def thread_count(text: str) -> int:
    """A number of threads: whole, from 1 up to what the machine may bear."""
    count, most = positive(text), max(64, 4 * (os.cpu_count() or 1))
    if count > most:
        raise argparse.ArgumentTypeError(f"{text} are too many threads here: {most} at most")
    return count


def share(text: str) -> float:
    """A number in 0..1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number in 0..1")
    return value


def say_comparison(rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Print the rows of `segkd.workbench.comparison.evaluate_models` as a table, and the IoU of every class."""
    from segkd.report.tables import class_table, comparison_table

    say(title, style="bold")
    console.print(comparison_table(rows))
    console.print(class_table({row["name"]: list(row["iou"].values()) for row in rows}, list(rows[0]["iou"])))


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
def following() -> Iterator[Follow]:
    """A function that shows how far a workbench function is, in a bar that begins anew with each thing it does."""
    with _bar() as bar:

        def follow(doing: str, done: int, total: int | None) -> None:
            if not bar.tasks or bar.tasks[-1].description != doing:
                for task in bar.task_ids:
                    bar.remove_task(task)
                bar.add_task(doing, total=total)
            bar.update(bar.task_ids[-1], completed=done)

        yield follow


def _bar() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_interactive)
