"""How far a piece of work is, as a bar in a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


@contextmanager
def following(
    console: Console | None = None, shown: bool = True, unit: str | None = None
) -> Iterator[Callable[[str, int, int | None], object]]:
    """A function of (what is done, how much of it, of how much) that shows it in a bar, anew with each thing done.

    With a ``unit``, such as "images", the bar shows how many a second, too.
    """
    with bar(console or Console(), shown, unit) as progress:

        def follow(doing: str, done: int, total: int | None) -> None:
            if not progress.tasks or progress.tasks[-1].description != doing:
                for task in progress.task_ids:
                    progress.remove_task(task)
                progress.add_task(doing, total=total)
            progress.update(progress.task_ids[-1], completed=done, total=total)

        yield follow


class Speed(ProgressColumn):
    """How many things are done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """The number with its unit; nothing before there is one."""
        return Text(f"{task.speed:.1f} {self.unit}/s" if task.speed else "", style="progress.data.speed")


def bar(console: Console, shown: bool = True, unit: str | None = None) -> Progress:
    """A bar that is gone when it is done; nothing where the console is neither a terminal nor a notebook."""
    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()]
    columns += [Speed(unit)] if unit else []
    columns += [TimeRemainingColumn()]
    live = shown and (console.is_interactive or console.is_jupyter)
    return Progress(*columns, console=console, transient=True, disable=not live)
