"""A run's log: one JSON object a line."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from segkd.files import naming, replacing
from segkd.training import processes

LOG = "log.jsonl"
FIRST_STAGES = "first_stage_*.pth"


def append(path: Path, record: Mapping[str, Any]) -> None:
    """One more line of JSON in a log, or none on a full disk; a number that is not finite, which JSON does not know,
    becomes null.
    """
    line = (json.dumps(_finite(record), allow_nan=False) + "\n").encode()
    with naming(path), open(path, "ab", buffering=0) as file:
        end = file.tell()
        try:
            while line:
                line = line[file.write(line) :]
        except OSError:
            file.truncate(end)
            raise


def trim_log(run: Path, step: int) -> None:
    """Drop the log's lines on steps after ``step``, which a resumed run takes again, and on first stages not kept."""

    def stays(record: Mapping[str, Any]) -> bool:
        stage = record.get("first_stage")
        return (run / FIRST_STAGES.replace("*", stage)).is_file() if stage else record["step"] <= step

    kept = "".join(line for line, record in _records(run) if stays(record))
    with replacing(run / LOG) as temporary:
        temporary.write_text(kept, encoding="utf-8")


def validations(run: Path, step: int) -> list[dict[str, Any]]:
    """The log's records of a validation after ``step`` steps: one or none."""
    return [record for _, record in _records(run) if record["step"] == step and "val" in record][-1:]


def _records(run: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each whole line of a log, if there is one, and what it holds; a killed process may have left half a line."""
    if not (run / LOG).is_file():
        return
    for line in (run / LOG).read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "step" in record and line.endswith("\n"):
            yield line, record


def _finite(value: Any) -> Any:
    """A copy of ``value`` in which numbers that are not finite are None."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Means:
    """Means of named scalars over the steps since the last line of the log, and the seconds that a step took.

    A term may be in some steps alone: its mean is over these.
    """

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Forget what was added."""
        self.sums: dict[str, Tensor] = {}
        self.counts: Counter[str] = Counter()
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave what has passed, as a validation, out of the time that steps take."""
        self.since, self.timed = time.perf_counter(), 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the values of a step."""
        add(self.sums, values)
        self.counts.update(list(values))
        self.timed += 1

    def take(self) -> dict[str, float]:
        """The means over all processes, with ``seconds_per_step``; then start anew."""
        seconds = (time.perf_counter() - self.since) / max(self.timed, 1)
        means = {name: value / self.counts[name] for name, value in processes.means(self.sums).items()}
        self.start()
        return means | {"seconds_per_step": round(seconds, 4)}


def add(sums: dict[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Add named scalars to their sums, in place."""
    for name, value in values.items():
        sums[name] = sums[name] + value.detach() if name in sums else value.detach().clone()


def logger(write: Callable[[Mapping[str, Any]], None], step: Callable[[], int]) -> logging.Logger:
    """A logger whose messages become lines {"step": ..., "message": ...} of a run's log."""
    found = logging.Logger("segkd.training", level=logging.INFO)
    found.addHandler(_ToLog(write, step))
    return found


class _ToLog(logging.Handler):
    def __init__(self, write: Callable[[Mapping[str, Any]], None], step: Callable[[], int]) -> None:
        super().__init__()
        self.write, self.step = write, step

    def emit(self, record: logging.LogRecord) -> None:
        self.write({"step": self.step(), "message": record.getMessage()})
