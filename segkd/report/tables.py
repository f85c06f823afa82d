"""Results as tables for the terminal, of any width, and as JSON."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from segkd.files import replacing

NOTHING = "–"
#: written as text; by name, so that no table has to wait for the import of torch
OF_TORCH = (("torch", "device"), ("torch", "dtype"))


class Column(NamedTuple):
    """One column: the key in a row, its title with the unit, and how a value is written."""

    key: str
    title: str
    write: Callable[[Any], str]


#: metrics by name beside mIoU -> what they are called
METRICS = {
    "macc": "mAcc", "aacc": "aAcc", "fwiou": "fwIoU", "precision": "precision", "recall": "recall", "f1": "F1",
    "boundary_iou": "boundary\nIoU", "boundary_f1": "boundary\nF1", "category_iou": "category\nIoU", "iiou": "iIoU",
    "category_iiou": "category\niIoU", "ece": "ECE",
}  # fmt: skip
COLUMNS = (
    Column("name", "network", str),
    Column("miou", "mIoU\n(%)", "{:.2f}".format),
    Column("miou_between", "95 %\ninterval", str),
    *(Column(key, f"{title}\n(%)", "{:.2f}".format) for key, title in METRICS.items()),
    Column("parameters", "parameters\n(M)", lambda n: f"{n / 1e6:.2f}"),
    Column("macs", "MACs\n(G)", lambda n: f"{n / 1e9:.2f}"),
    Column("latency_ms", "latency\n(ms)", "{:.1f}".format),
    Column("latency_iqr_ms", "IQR\n(ms)", "{:.1f}".format),
    Column("fps", "FPS", "{:.1f}".format),
    Column("speedup", "x fp32", "{:.2f}".format),
    Column("file_bytes", "size\n(MiB)", lambda n: f"{n / 2**20:.2f}"),
)
BLOCK_COLUMNS = (
    Column("name", "block", str),
    Column("parameters", "parameters\n(k)", lambda n: f"{n / 1e3:.1f}"),
    Column("parameters_ratio", "parameters\n/ 3x3", "{:.2f}".format),
    Column("macs", "MACs\n(M)", lambda n: f"{n / 1e6:.1f}"),
    Column("macs_ratio", "MACs\n/ 3x3", "{:.2f}".format),
    Column("latency_ms", "latency\n(ms)", "{:.2f}".format),
    Column("latency_iqr_ms", "IQR\n(ms)", "{:.2f}".format),
    Column("latency_ms_ratio", "latency\n/ 3x3", "{:.2f}".format),
)
STEP_COLUMNS = (
    Column("name", "part", str),
    Column("ms", "ms", "{:.2f}".format),
    Column("share", "%", lambda part: f"{100 * part:.1f}"),
)
SHIP_COLUMNS = (
    Column("name", "file", str),
    Column("miou", "mIoU\n(%)", "{:.2f}".format),
    Column("latency_ms", "ms to\nlabels", "{:.1f}".format),
    Column("file_bytes", "size\n(MiB)", lambda n: f"{n / 2**20:.2f}"),
    Column("front", "front", str),
)
SCALING_COLUMNS = (
    Column("name", "network", str),
    Column("threads", "threads", str),
    Column("batch", "batch", str),
    Column("latency_ms", "ms a\ncall", "{:.1f}".format),
    Column("image_ms", "ms an\nimage", "{:.1f}".format),
    Column("fps", "FPS", "{:.1f}".format),
    Column("scaling", "x FPS of\nthe first", "{:.2f}".format),
)
NAME, NUMBER, GAP = 12, 5, 2  # columns of a terminal: a name before it takes more lines, "100.0", between two columns


def comparison_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> RowsTable:
    """A table of networks, one a row, for the terminal.

    Args:
        rows: dicts with ``name`` and any of ``miou`` (percent), ``parameters`` and ``macs`` (counts), ``latency_ms``
            (median), ``latency_iqr_ms``, ``fps``, ``file_bytes``. A value that is missing, None or NaN shows as a dash,
            a column without any value is left out.
    """
    shown = [
        {**row, "miou_between": f"{row['miou_low']:.2f} .. {row['miou_high']:.2f}"} if "miou_low" in row else row
        for row in rows
    ]
    return RowsTable([c for c in COLUMNS if any(row.get(c.key) is not None for row in shown)], shown, title)


def noise_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each row whose time says little, as something else ran."""
    for row in rows:
        if row.get("noisy"):
            yield (
                f"{row['name']}: noisy: the median of {row['latency_ms']:.1f} ms is far above the best of "
                f"{row['latency_min_ms']:.1f}; something else is running"
            )


def peak_lines(rows: Sequence[Mapping[str, Any]], peaks: Mapping[str, float]) -> Iterator[str]:
    """The machine's peaks, and what share of the float peak each row reaches."""
    if not peaks:
        return
    yield "peak of a 3x3 convolution here: " + ", ".join(f"{name} {value:.0f} GMAC/s" for name, value in peaks.items())
    for row in rows:
        if row.get("gmacs_per_s"):
            share = 100 * row["gmacs_per_s"] / peaks["float32"]
            yield f"{row['name']}: {row['gmacs_per_s']:.0f} GMAC/s, {share:.0f} % of the float32 peak"


def blocks_table(rows: Sequence[Mapping[str, Any]]) -> RowsTable:
    """A table of the rows of `segkd.workbench.blocks.time_blocks`, for the terminal."""
    return RowsTable(BLOCK_COLUMNS, rows)


def scaling_table(rows: Sequence[Mapping[str, Any]]) -> RowsTable:
    """A table of the rows of `segkd.workbench.timing.time_scaling`, for the terminal."""
    return RowsTable(SCALING_COLUMNS, rows)


def ship_table(rows: Sequence[Mapping[str, Any]]) -> RowsTable:
    """A table of the files that `segkd ship` tried, for the terminal."""
    return RowsTable(SHIP_COLUMNS, rows)


def step_table(rows: Sequence[Mapping[str, Any]]) -> RowsTable:
    """A table of the parts of a training step (`segkd.workbench.step.StepTimes.rows`), for the terminal."""
    whole = {"name": "a step", "ms": sum(row["ms"] for row in rows), "share": sum(row["share"] for row in rows)}
    return RowsTable(STEP_COLUMNS, [*rows, whole])


class RowsTable:
    """Rows as rich prints them: in columns, long names on several lines; where the numbers don't fit, row by row."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
        self.titles = [column.title for column in columns]
        self.cells = [[_write(row.get(c.key), c.write) for c in columns] for row in rows]
        self.title = title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        at_least = self._table(cut=NAME).__rich_measure__(console, options.update(width=10_000)).maximum
        if at_least <= options.max_width:
            yield self._table()
        else:
            yield from self._stacked()

    def _table(self, cut: int | None = None) -> Table:
        """The table, or one with the names cut off."""
        table = _table(self.title)
        for title in self.titles:  # rich takes what is missing from columns that may wrap: from the name alone
            number = title != self.titles[0]
            table.add_column(title, justify="right" if number else "left", no_wrap=number, overflow="fold")
        for name, *numbers in self.cells:
            table.add_row(escape(name[:cut]), *map(escape, numbers))
        return table

    def _stacked(self) -> Iterator[Text]:
        """Each name, and under it a line for each of its numbers."""
        if self.title:
            yield Text(self.title, overflow="fold")
        titles = [title.replace("\n", " ") for title in self.titles]
        widest = max(len(number) for _, *numbers in self.cells for number in numbers)
        for name, *numbers in self.cells:
            yield Text(name, style="bold", overflow="fold")
            for title, number in zip(titles[1:], numbers, strict=True):
                yield Text(f"  {title:<{max(map(len, titles))}}  {number:>{widest}}", no_wrap=True)


def _table(title: str | None) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def class_table(
    iou: Mapping[str, Sequence[float]], class_names: Sequence[str], title: str | None = "IoU per class (%)"
) -> ClassTable:
    """IoU (percent) per class, one class a row, one network a column (``iou``: name -> one value per class).

    Classes without any value, as they have no pixel, are named in a line below.
    """
    for name, values in iou.items():
        if len(values) != len(class_names):
            raise ValueError(f"{name}: {len(values)} values for {len(class_names)} classes")
    return ClassTable(iou, class_names, title)


class ClassTable:
    """IoU per class as rich prints it: networks whose columns don't fit beside the others follow below them."""

    def __init__(self, iou: Mapping[str, Sequence[float]], class_names: Sequence[str], title: str | None) -> None:
        self.iou, self.class_names, self.title = iou, class_names, title
        has = [any(_is_number(values[k]) for values in iou.values()) for k in range(len(class_names))]
        self.shown = [k for k, there in enumerate(has) if there] or list(range(len(class_names)))
        self.folded = [name for k, name in enumerate(class_names) if k not in self.shown]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        head = min(max(map(len, ["class", *self.class_names])), max(options.max_width // 2, NUMBER))
        room = options.max_width - head
        names, beside = list(self.iou), max(1, room // (NUMBER + GAP))
        for first in range(0, len(names), beside):
            yield self._part(names[first : first + beside], head, room)
        if self.folded:
            yield Text(f"{len(self.folded)} without a pixel: {', '.join(self.folded)}", style="dim")

    def _part(self, names: Sequence[str], head: int, room: int) -> Table:
        """Some of the networks, their names over as many lines as it takes."""
        table = _table(self.title)
        table.add_column("class", width=head, overflow="fold")
        share = room // len(names) - GAP
        for name in names:
            width = max(NUMBER, min(len(name), share))
            table.add_column(escape(name), width=width, justify="right", overflow="fold")
        for k in self.shown:
            class_name = self.class_names[k]
            values = [_write(self.iou[name][k], "{:.1f}".format) for name in names]
            table.add_row(escape(class_name), *values)
        return table


def _write(value: Any, write: Callable[[Any], str]) -> str:
    return write(value) if _is_number(value) else NOTHING


def _is_number(value: Any) -> bool:
    """False for what is missing, and for NaN."""
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def jsonable(value: Any) -> Any:
    """What JSON can hold: arrays and tensors as lists and numbers, dataclasses as dicts, paths as text, NaN as None."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if hasattr(value, "tolist"):  # arrays, tensors, and numbers of theirs
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    kind = type(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path) or (kind.__module__, kind.__name__) in OF_TORCH:
        return str(value)
    raise TypeError(f"cannot write a {kind.__name__} as JSON")


def write_json(path: str | Path, data: Any) -> None:
    """Write ``data`` (see `jsonable`) as indented JSON; a reader never sees half a file."""
    text = json.dumps(jsonable(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def as_text(table: Any, width: int = 120) -> str:
    """A table as lines of at most ``width`` columns."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())
