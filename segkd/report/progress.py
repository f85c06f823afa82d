"""How far a piece of work is, as a bar in a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def following(console: Console | None = None, shown: bool = True) -> Iterator[Callable[[str, int, int | None], object]]:
    """A function of (what is done, how much of it, of how much) that shows it in a bar, anew with each thing done."""
    with bar(console or Console(), shown) as progress:

        def follow(doing: str, done: int, total: int | None) -> None:
            if not progress.tasks or progress.tasks[-1].description != doing:
                for task in progress.task_ids:
                    progress.remove_task(task)
                progress.add_task(doing, total=total)
            progress.update(progress.task_ids[-1], completed=done)

        yield follow


def bar(console: Console, shown: bool = True) -> Progress:
    """A bar that is gone when it is done; nothing where the console is neither a terminal nor a notebook."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    live = shown and (console.is_interactive or console.is_jupyter)
    return Progress(*columns, console=console, transient=True, disable=not live)
