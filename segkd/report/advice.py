"""Advice on a distillation as tables for the terminal, and as lines to paste."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from segkd.report.tables import Column, RowsTable

Row = Mapping[str, Any]
PERCENT = "{:.1f}".format
VIEW_COLUMNS = (
    Column("view", "images", str),
    Column("train_accuracy", "train:\nright (%)", PERCENT),
    Column("train_miou", "train:\nmIoU (%)", PERCENT),
    Column("val_accuracy", "val:\nright (%)", PERCENT),
    Column("val_miou", "val:\nmIoU (%)", PERCENT),
)
BORDER_COLUMNS = (
    Column("name", "pixels to the nearest\nother label", str),
    Column("val_share", "share of\nval (%)", PERCENT),
    Column("train_accuracy", "train:\nright (%)", PERCENT),
    Column("val_accuracy", "val:\nright (%)", PERCENT),
)
CLASS_COLUMNS = (
    Column("class", "class", str),
    Column("train_iou", "teacher,\ntrain IoU", PERCENT),
    Column("val_iou", "teacher,\nval IoU", PERCENT),
    Column("student_iou", "student,\nval IoU", PERCENT),
    Column("room", "room", "{:+.1f}".format),
)


def views_table(rows: Sequence[Row]) -> RowsTable:
    """A table of how right a teacher is, by how images are shown (`segkd.workbench.advice.Advice.views`)."""
    return RowsTable(VIEW_COLUMNS, rows)


def borders_table(rows: Sequence[Row]) -> RowsTable:
    """A table of how right a teacher is, by distance to borders of labels (`Advice.borders`)."""
    return RowsTable(BORDER_COLUMNS, [{**row, "name": band(row)} for row in rows])


def band(row: Row) -> str:
    """Distances as text: ``1``, ``2-3``, ``16 or more``."""
    if row["to"] is None:
        return f"{row['from']} or more"
    return str(row["from"]) if row["to"] == row["from"] else f"{row['from']}-{row['to']}"


def teaching_table(rows: Sequence[Row]) -> RowsTable:
    """A table of teacher and student by class (`Advice.classes`); without a student, of the teacher alone."""
    given = [column for column in CLASS_COLUMNS if any(column.key in row for row in rows)]
    return RowsTable(given, rows)


def setting_lines(settings: Mapping[str, Any]) -> list[str]:
    """``--set KEY=VALUE`` for each setting, quoted for a shell."""
    return [f"--set {shlex.quote(f'{key}={setting(value)}')}" for key, value in settings.items()]


def setting(value: Any) -> str:
    """A value as ``--set`` reads it: ``0.75,2.0``, ``dict(type='kd')``."""
    if isinstance(value, Mapping):
        return "dict(" + ",".join(f"{key}={_inner(inner)}" for key, inner in value.items()) + ")"
    if isinstance(value, list | tuple) and len(value) > 1 and not any(isinstance(x, str | Mapping) for x in value):
        return ",".join(map(repr, value))
    return value if isinstance(value, str) else repr(value)


def _inner(value: Any) -> str:
    return setting(value) if isinstance(value, Mapping) else repr(value)
