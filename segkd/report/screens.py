"""Where the state of a running training is shown: in place in a terminal or a notebook, elsewhere as lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live as InPlace
from rich.text import Text

IN_PLACE_EVERY = 1.0  # s; reading the losses of a step makes a GPU wait for the CPU
LINES_EVERY = 30.0  # s
LINES = 20  # of a training, at least, if it has as many steps
BAR = 60  # columns at most


class Screen(Protocol):
    """Shows short texts ("lr 0.01") that are never broken."""

    def due(self, step: int, total: int) -> bool:
        """True if it is time to show the state after ``step`` of ``total`` steps."""

    def show(self, parts: Sequence[str], step: int, total: int) -> None:
        """Show the state after ``step`` of ``total`` steps."""

    def close(self) -> None:
        """Take away what stays in place."""


def screen(console: Console) -> Screen:
    """The screen for what a console writes to."""
    if console.is_jupyter:
        return Notebook()
    return Terminal(console) if console.is_interactive else Lines(console)


def wrap(parts: Sequence[str], width: int, gap: str = "  ", indent: str = "") -> list[str]:
    """Lines of at most ``width`` columns; a part is broken only where it alone is wider, and then between words."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(gap) + len(part) <= width:
            lines[-1] += gap + part
        elif len(indent) + len(part) <= width or " " not in part:
            lines.append((indent if lines else "") + part)
        else:
            lines += [(indent if lines else "") + line for line in wrap(part.split(), width - len(indent), " ")]
    return lines


def tell(console: Console, parts: Sequence[str], gap: str = " ") -> None:
    """Print a line that stays: in a terminal on as many lines as it takes, elsewhere on one."""
    lines = wrap(parts, console.width, gap, indent="    ") if console.is_terminal else [gap.join(parts)]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


class Terminal:
    """A bar and a few lines that stay at the bottom of a terminal."""

    def __init__(self, console: Console) -> None:
        self.console, self.shown = console, float("-inf")
        self.live = InPlace(console=console, transient=True, auto_refresh=False)

    def due(self, step: int, total: int) -> bool:
        return time.monotonic() - self.shown >= IN_PLACE_EVERY

    def show(self, parts: Sequence[str], step: int, total: int) -> None:
        self.shown, width = time.monotonic(), self.console.width
        self.live.start()
        text = "\n".join([self._bar(step, total, min(width, BAR)), *wrap(parts, width)])
        self.live.update(Text(text, overflow="fold"), refresh=True)

    def _bar(self, step: int, total: int, width: int) -> str:
        full, rest = ("=", "-") if self.console.options.ascii_only else ("━", "─")
        done = width * step // total
        return full * done + rest * (width - done)

    def close(self) -> None:
        self.live.stop()


class Notebook:
    """An output of a notebook's cell that is written anew; it needs no ipywidgets."""

    def __init__(self) -> None:
        self.shown, self.handle = float("-inf"), None

    def due(self, step: int, total: int) -> bool:
        return time.monotonic() - self.shown >= IN_PLACE_EVERY

    def show(self, parts: Sequence[str], step: int, total: int) -> None:
        self.shown = time.monotonic()
        self._write("\n".join(wrap(parts, BAR + 20)))

    def close(self) -> None:
        if self.handle is not None:
            self._write("")

    def _write(self, text: str) -> None:
        from IPython.display import display

        content: dict[str, Any] = {"text/plain": text}
        if self.handle is None:
            self.handle = display(content, raw=True, display_id=True)
        else:
            self.handle.update(content, raw=True)


class Lines:
    """A line after the first and the last step, after every twentieth part of all steps, and every 30 s."""

    def __init__(self, console: Console) -> None:
        self.console, self.shown, self.step = console, time.monotonic(), 0

    def due(self, step: int, total: int) -> bool:
        apart, late = step - self.step, time.monotonic() - self.shown >= LINES_EVERY
        return late or (apart > 0 and (not self.step or apart >= total // LINES or step == total))

    def show(self, parts: Sequence[str], step: int, total: int) -> None:
        self.shown, self.step = time.monotonic(), step
        tell(self.console, ["  " + parts[0], *parts[1:]], gap="  ")

    def close(self) -> None:
        self.step = 0
