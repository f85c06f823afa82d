"""What a process runs that holds models for another one: opens them, answers calls, ends with its caller.

Started by `segkd.workbench.isolation`. Requests come through standard input, answers go out through standard output;
what libraries print goes to the stream of errors. While it waits it blocks on a read, and takes no time.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from typing import IO, Any

from segkd.errors import UserError, first_line

HEADER = struct.Struct("<Q")
ANSWERED, REFUSED, FAILED, UNREADABLE = "answered", "refused", "failed", "unreadable"

Answer = tuple[str, Any]


def send(stream: IO[bytes], content: bytes) -> None:
    """Write a message."""
    stream.write(HEADER.pack(len(content)))
    stream.write(content)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """The next message; None where the other side has gone."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (size,) = HEADER.unpack(header)
    content = stream.read(size)
    return content if len(content) == size else None


def main() -> None:
    """Answer requests until the caller has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, who ends this process
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    models: dict[str, Any] = {}
    while (request := receive(sys.stdin.buffer)) is not None:
        send(replies, pickle.dumps(answer(models, request)))


def answer(models: dict[str, Any], request: bytes) -> Answer:
    """Open a model under a new key, or call a function with the one that is known by it.

    A request is (key, function, arguments), pickled.
    """
    try:
        key, function, arguments = pickle.loads(request)
    except Exception as error:  # of a class that only the caller has, whatever its unpickling raises
        return UNREADABLE, first_line(error)
    try:
        if key not in models:
            models[key] = function(*arguments)
            return ANSWERED, None
        return ANSWERED, _called(function, models[key], arguments)
    except UserError as error:
        return REFUSED, str(error)
    except Exception as error:
        return FAILED, (f"{type(error).__name__}: {first_line(error)}", traceback.format_exc())


def _called(function: Callable[..., Any], model: Any, arguments: tuple[Any, ...]) -> Any:
    return function(model, *arguments)
