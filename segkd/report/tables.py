"""Results as tables (terminal and markdown) and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.markup import escape
from rich.table import Table

from segkd.files import replacing

NOTHING = "–"
#: written as text; by name, so that no table has to wait for the import of torch
OF_TORCH = (("torch", "device"), ("torch", "dtype"))


class Column(NamedTuple):
    """One column: the key in a row, its title with the unit, and how a value is written."""

    key: str
    title: str
    write: Callable[[Any], str]


COLUMNS = (
    Column("name", "network", str),
    Column("miou", "mIoU (%)", "{:.2f}".format),
    Column("parameters", "parameters (M)", lambda n: f"{n / 1e6:.2f}"),
    Column("macs", "MACs (G)", lambda n: f"{n / 1e9:.2f}"),
    Column("latency_ms", "latency (ms)", "{:.1f}".format),
    Column("latency_iqr_ms", "IQR (ms)", "{:.1f}".format),
    Column("fps", "FPS", "{:.1f}".format),
    Column("file_bytes", "size (MiB)", lambda n: f"{n / 2**20:.2f}"),
)


def comparison_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> Table:
    """A table of networks, one a row, for the terminal; on a narrow one, long names take several lines.

    Args:
        rows: dicts with ``name`` and any of ``miou`` (percent), ``parameters`` and ``macs`` (counts), ``latency_ms``
            (median), ``latency_iqr_ms``, ``fps``, ``file_bytes``. A value that is missing, None or NaN shows as a dash,
            a column without any value is left out.
    """
    table = _table(title)
    filled = [column for column in COLUMNS if any(row.get(column.key) is not None for row in rows)]
    for column in filled:  # rich takes what is missing from columns that may wrap: from the name alone
        number = column.key != "name"
        title_lines = column.title.replace(" (", "\n(")
        table.add_column(title_lines, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_write(row.get(column.key), column.write)) for column in filled))
    return table


def _table(title: str | None) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def comparison_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same as a markdown table."""
    return _markdown([column.title for column in COLUMNS], [_cells(row) for row in rows])


def class_table(
    iou: Mapping[str, Sequence[float]], class_names: Sequence[str], title: str | None = "IoU per class (%)"
) -> Table:
    """IoU (percent) per class, one class a row, one network a column (``iou``: name -> one value per class)."""
    table = _table(title)
    table.add_column("class", no_wrap=True)
    for name in iou:
        table.add_column(escape(name), justify="right", overflow="fold")
    for cells in _class_rows(iou, class_names):
        table.add_row(*cells)
    return table


def class_markdown(iou: Mapping[str, Sequence[float]], class_names: Sequence[str]) -> str:
    """The same as a markdown table."""
    return _markdown(["class", *iou], _class_rows(iou, class_names))


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [_write(row.get(column.key), column.write) for column in COLUMNS]


def _class_rows(iou: Mapping[str, Sequence[float]], class_names: Sequence[str]) -> list[list[str]]:
    for name, values in iou.items():
        if len(values) != len(class_names):
            raise ValueError(f"{name}: {len(values)} values for {len(class_names)} classes")
    return [
        [class_name, *(_write(values[k], "{:.1f}".format) for values in iou.values())]
        for k, class_name in enumerate(class_names)
    ]


def _write(value: Any, write: Callable[[Any], str]) -> str:
    missing = value is None or (isinstance(value, float) and not math.isfinite(value))
    return NOTHING if missing else write(value)


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(titles) - 1)]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in [titles, rule, *cells])


def plain(value: Any) -> Any:
    """What JSON can hold: arrays and tensors as lists and numbers, dataclasses as dicts, paths as text, NaN as None."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if hasattr(value, "tolist"):  # arrays, tensors, and numbers of theirs
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    kind = type(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path) or (kind.__module__, kind.__name__) in OF_TORCH:
        return str(value)
    raise TypeError(f"cannot write a {kind.__name__} as JSON")


def write_json(path: str | Path, data: Any) -> None:
    """Write ``data`` (see `plain`) as indented JSON; a reader never sees half a file."""
    text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
