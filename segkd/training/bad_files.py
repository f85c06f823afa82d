"""Files found in a training that cannot be used: skipped and counted, or the end of it with its state kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from segkd.datasets.base import DataError
from segkd.datasets.loading import Loader
from segkd.errors import UserError
from segkd.training import processes


class SkippedFiles:
    """What ``data.skip_bad`` passed over in a run.

    Args:
        write: takes a line of the log for each file, when it is first met.
        before: those of earlier sittings, {what is wrong with a file: draws}.
    """

    def __init__(self, write: Callable[[Mapping[str, Any]], None], before: Mapping[str, int]) -> None:
        self.write, self.draws = write, Counter(before)
        self._seen: Counter[str] = Counter()  # of the loader's own count

    def take(self, loader: Loader, step: int) -> None:
        """Count what a loader has replaced up to a step."""
        for line, count in (loader.skipped - self._seen).items():
            if line not in self.draws:
                self.write({"step": step, "skipped": line})
            self.draws[line] += count
        self._seen = Counter(loader.skipped)

    def summary(self) -> dict[str, Any] | None:
        """How many draws were replaced, and what is wrong with each file; None without any.

        Every process must call it.
        """
        total: Counter[str] = Counter()
        for own in processes.gathered(dict(self.draws)):
            total.update(own)
        return {"draws": total.total(), "files": dict(sorted(total.items()))} if total else None


def said(summary: Mapping[str, Any]) -> str:
    """A summary in one line."""
    files = summary["files"]
    names = "; ".join(list(files)[:3]) + (f"; and {len(files) - 3} more" if len(files) > 3 else "")
    plural = "file" if len(files) == 1 else "files"
    return f"skipped {len(files)} {plural} that cannot be used, {summary['draws']} times: {names}"


def with_state_kept(error: DataError, step: int, keep: Callable[[], bool]) -> UserError:
    """What ends a training at a file that cannot be used, after its state was kept if there is something to keep."""
    cure = "mend or remove the file, or skip such files (data.skip_bad=True)"
    if step == 0 or not keep():
        return UserError(str(error))
    return UserError(f"{error}; the state after step {step} is kept: {cure}, and go on with --resume")
