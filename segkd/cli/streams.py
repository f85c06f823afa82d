"""Standard output and error, which may be closed, full, or read by somebody who goes away."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

OUTPUT = "standard output"


def check() -> None:
    """Refuse to work without an output; where a terminal can't show a character, let it show ?."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # else the next file to be opened would become it
            continue
        os.close(descriptor)
    if sys.stdout is None:
        raise OSError(0, "it is closed; send it to a file, or to /dev/null", OUTPUT)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextmanager
def naming_output() -> Iterator[None]:
    """A context in which the system's errors are told as standard output's; a reader that has gone is none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, OUTPUT) from error


def flush() -> None:
    """Write what Python has kept of the output, while an error can still be told."""
    with naming_output():
        sys.stdout.flush()


def let_go_of_output() -> None:
    """Send nowhere what Python has still kept for an output that can't take it: its end would fail over it."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """One line on stderr; where there is none that takes it, the exit code alone has to tell."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(" ".join(text.split()), file=sys.stderr)
