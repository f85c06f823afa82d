"""Ctrl-C and SIGTERM end a command with one line and an exit code, from its first moment to its last.

This file imports nothing that takes time: until it is in place, an interrupt is a traceback.
"""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType

FOLDER = os.path.dirname(__file__)
AGAIN = 0.05  # seconds
ECHO = 1.0  # seconds in which a signal is the echo of the one before: a launcher passes on what its processes got, too
SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Terminated(KeyboardInterrupt):
    """SIGTERM: whoever is prepared for Ctrl-C is prepared for it, too."""

    number = signal.SIGTERM


class Signals:
    """A context in which SIGINT raises KeyboardInterrupt, SIGTERM Terminated; after `ending`, both exit at once.

    An exception in the middle of an import is lost or wrapped by whoever tries imports, and leaves half a module
    behind. So while a command imports what it needs, and has done nothing yet, a signal ends the process there and
    then; while a library imports something in the midst of the work, the signal comes again when that is over. It does
    so, too, where Python throws an exception away: in a finaliser, or in what is called around a fork.

    A signal that the parent process has set to be ignored (nohup), or that the calling program handles, stays so.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.ending = False
        self.last = -ECHO  # when a signal raised
        self.process = os.getpid()
        self.before: dict[signal.Signals, object] = {}
        self.unraisable = sys.unraisablehook

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in SAID:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self.before[number] = signal.signal(number, self._handle)
        self.unraisable, sys.unraisablehook = sys.unraisablehook, self._lost
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if signal.SIGINT in self.before:
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # the end of the interpreter is no work
        for number, handler in self.before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        sys.unraisablehook = self.unraisable

    def end(self, stop: KeyboardInterrupt) -> int:
        """Say what has ended the command, and give its exit code."""
        self.ending = True
        number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
        from segkd.cli.streams import complain

        if _speaks():
            complain(self._line(number))
        return 128 + number

    def _line(self, number: int) -> str:
        return f"{self.prefix}: {SAID[signal.Signals(number)]}"

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a worker, forked with this handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        importer = _importer(frame)
        if self.ending or (importer is not None and _is_ours(importer)):
            if not self.ending and _speaks():
                _say_at_once(self._line(number))
            os._exit(128 + number)
        if importer is not None:
            self._again(number)
            return
        if time.monotonic() - self.last < ECHO:
            return
        self.last = time.monotonic()
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def _lost(self, lost: sys.UnraisableHookArgs) -> None:
        """What Python throws away; a signal among it comes again."""
        if not isinstance(lost.exc_value, KeyboardInterrupt) or os.getpid() != self.process:
            self.unraisable(lost)
            return
        self.last = -ECHO
        self._again(signal.SIGTERM if isinstance(lost.exc_value, Terminated) else signal.SIGINT)

    def _again(self, number: int) -> None:
        """Send a signal anew, a moment later."""
        timer = threading.Timer(AGAIN, os.kill, (self.process, number))
        timer.daemon = True
        timer.start()


def _speaks() -> bool:
    """True in the process of a run that prints: torchrun and srun start several, and a signal reaches all of them."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def _say_at_once(line: str) -> None:
    """Write to the stream of errors itself: Python's own may be in use where a signal comes in."""
    if sys.stderr is not None:
        os.write(2, f"{line}\n".encode())


def _importer(frame: FrameType | None) -> FrameType | None:
    """The frame whose import statement (the outermost one) is at work, if there is any."""
    found = None
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            found = frame.f_back
        frame = frame.f_back
    while found is not None and found.f_code.co_filename == importlib.__file__:  # import_module
        found = found.f_back
    return found


def _is_ours(frame: FrameType) -> bool:
    """Whether the import stands in a file of the command line, which imports before it works."""
    return os.path.dirname(frame.f_code.co_filename) == FOLDER
