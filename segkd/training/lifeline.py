"""The end of all processes of a run when one of them ends: none waits for hours for one that has died."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

from segkd.errors import first_line

INTERVAL, PATIENCE = 1.0, 40.0  # seconds
GRACE = 5.0  # seconds that the process with the store gives the others to end, when it ends by an error
LOOK = 0.05  # seconds
DONE = "done"
ENDED = "ended"


class Lifeline:
    """A thread in which a process says that it lives, and looks after the others.

    A process that ends by an error says so; one that was killed is not heard of any more for 40 seconds. Either ends
    the others with one line and exit code 1, even where they wait for each other inside a library; an interrupt
    ends them with its own exit code, as a library that waits lets no signal through.

    Args:
        store: torch.distributed's, that the processes share.
        rank, world_size: this process's number, and how many there are.
    """

    def __init__(self, store: Any, rank: int, world_size: int) -> None:
        self.store, self.rank = store.clone(), rank  # its own connection: the other may be waiting
        self.others = {number: ("", time.monotonic()) for number in range(world_size) if number != rank}
        self.code = 1  # to exit with
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin, with the first sign of life."""
        self._beat("0")
        self.thread.start()

    def stop(self) -> None:
        """End the thread, but not the process."""
        self.over.set()
        if self.thread.ident is not None:
            self.thread.join()

    def finish(self) -> None:
        """Say that all is done; the process that holds the store waits for those that still read it."""
        self.stop()
        self._beat(DONE)
        self.leave(PATIENCE)

    def fail(self, error: BaseException) -> None:
        """Say why this process ends, unless another has before."""
        self.stop()
        with suppress(RuntimeError):  # process 0 has gone, with the store: the others know
            if not self.store.check([ENDED]):
                code = 128 + getattr(error, "number", signal.SIGINT) if isinstance(error, KeyboardInterrupt) else 1
                self.store.set(ENDED, f"{self.rank}\n{code}\n{type(error).__name__}: {first_line(error)}")

    def reason(self) -> str | None:
        """Why another process has ended, or is taken for dead; None while all live."""
        try:
            if self.store.check([ENDED]):
                number, code, text = self.store.get(ENDED).decode().split("\n", 2)
                self.code = int(code)
                return None if int(number) == self.rank else f"process {number} has ended: {text}"
            for number, (last, seen) in self.others.items():
                key, now = f"beat/{number}", time.monotonic()
                beat = self.store.get(key).decode() if self.store.check([key]) else ""
                if beat != last:
                    self.others[number] = (beat, now)
                elif beat != DONE and now - seen > PATIENCE:
                    return f"process {number} was not heard of for {now - seen:.0f} s: it was killed, or hangs"
        except RuntimeError:  # of the store's
            return "process 0, through which the others meet, has ended"
        return None

    def leave(self, patience: float) -> None:
        """Go, the process with the store last: torch prints a stack of C++ in one that still reads a store."""
        with suppress(RuntimeError):  # process 0 has gone
            if self.rank != 0:
                self.store.set(f"done/{self.rank}", DONE)
                return
            done, end = [f"done/{number}" for number in self.others], time.monotonic() + patience
            while not self.store.check(done) and time.monotonic() < end:  # one that has died is not waited for longer
                time.sleep(LOOK)

    def _beat(self, what: str) -> None:
        self.store.set(f"beat/{self.rank}", what)

    def _run(self) -> None:
        count = 0
        while not self.over.wait(INTERVAL):
            count += 1
            reason = self.reason()
            if reason is None:
                try:
                    self._beat(str(count))
                except RuntimeError:
                    continue  # the next look says why
            elif not self.over.is_set():
                self.leave(GRACE)
                if self.code == 1 or self.rank == 0:  # of an interrupt, process 0 speaks
                    os.write(2, f"segkd: error: {reason}\n".encode())
                os._exit(self.code)
