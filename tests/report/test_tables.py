from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from segkd.report.tables import (
    class_markdown,
    class_table,
    comparison_markdown,
    comparison_table,
    plain,
    write_json,
)

ROWS = [
    {
        "name": "teacher",
        "miou": 61.234,
        "parameters": 12_300_000,
        "macs": 36_590_000_000,
        "latency_ms": 84.84,
        "latency_iqr_ms": 2.25,
        "fps": 11.787,
        "file_bytes": 47 * 2**20,
    },
    {"name": "student | int8", "miou": 0.0, "latency_ms": None, "fps": math.nan},
]


def text_of(table: object) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_markdown_says_units_and_dashes() -> None:
    lines = comparison_markdown(ROWS).splitlines()
    assert lines[0] == (
        "| network | mIoU (%) | parameters (M) | MACs (G) | latency (ms) | IQR (ms) | FPS | size (MiB) |"
    )
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert lines[2] == "| teacher | 61.23 | 12.30 | 36.59 | 84.8 | 2.2 | 11.8 | 47.00 |"
    assert lines[3] == "| student \\| int8 | 0.00 | – | – | – | – | – | – |"


def test_terminal_table_shows_the_same() -> None:
    text = text_of(comparison_table(ROWS, title="on synthetic"))
    assert "on synthetic" in text
    for cell in ("latency", "(ms)", "36.59", "61.23", "student | int8"):
        assert cell in text


def test_terminal_table_of_80_columns_loses_no_number() -> None:
    row = {**ROWS[0], "name": "[fast_scnn]/student_best_352x480_int8.onnx", "latency_ms": 1234.5}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(comparison_table([row]))
    text = console.export_text()
    for cell in ("61.23", "12.30", "36.59", "1234.5", "2.2", "11.8", "47.00", "[fast_scnn]"):
        assert cell in text
    assert max(map(len, text.splitlines())) <= 80


def test_class_tables() -> None:
    iou = {"alone": (50.0, math.nan), "distilled": (61.26, 0.0)}
    assert class_markdown(iou, ["road", "car"]).splitlines()[2:] == ["| road | 50.0 | 61.3 |", "| car | – | 0.0 |"]
    assert "61.3" in text_of(class_table(iou, ["road", "car"]))
    with pytest.raises(ValueError, match="alone: 2 values for 1 classes"):
        class_table(iou, ["road"])


@dataclass
class Thing:
    value: torch.Tensor
    where: Path


def test_json_of_everything(tmp_path: Path) -> None:
    data = {
        "scalar": np.float32(0.5),
        "count": np.int64(7),
        "flag": np.bool_(True),
        "tensor": torch.tensor([1.0, float("nan")]),
        "array": np.array([[1, 2]]),
        "thing": Thing(torch.tensor(3), Path("a/b")),
        3: (math.inf, None, True, {2, 1}),
        "name": "Straße",
    }
    write_json(tmp_path / "deep" / "metrics.json", data)
    text = (tmp_path / "deep" / "metrics.json").read_text(encoding="utf-8")

    def refuse(token: str) -> None:
        raise AssertionError(token)

    assert json.loads(text, parse_constant=refuse) == {
        "scalar": 0.5,
        "count": 7,
        "flag": True,
        "tensor": [1.0, None],
        "array": [[1, 2]],
        "thing": {"value": 3, "where": "a/b"},
        "3": [None, None, True, [1, 2]],
        "name": "Straße",
    }
    assert text.endswith("}\n")
    with pytest.raises(TypeError, match="object"):
        plain({"x": object()})


def test_a_failing_write_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})

    def half(self: Path, text: str, encoding: str) -> None:
        self.write_bytes(text[:3].encode())
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_bytes()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
