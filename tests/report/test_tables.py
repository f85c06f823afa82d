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

from segkd.report.tables import blocks_table, class_table, comparison_table, jsonable, write_json

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


def text_of(table: object, width: int = 160) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    return text


def test_terminal_table_says_units_and_dashes() -> None:
    text = text_of(comparison_table(ROWS, title="on synthetic"))
    assert "on synthetic" in text
    for cell in ("latency", "(ms)", "36.59", "61.23", "student | int8"):
        assert cell in text
    assert text.splitlines()[-1].split() == ["student", "|", "int8", "0.00", *"––––––"]


LONG = "[fast_scnn]/student_best_352x480_int8.onnx"
NUMBERS = ("61.23", "12.30", "36.59", "1234.5", "2.2", "11.8", "47.00")


def test_terminal_table_of_80_columns_loses_no_number() -> None:
    text = text_of(comparison_table([{**ROWS[0], "name": LONG, "latency_ms": 1234.5}]), width=80)
    assert text.splitlines()[1].split()[0] == "network"
    for cell in (*NUMBERS, "[fast_scnn]"):
        assert cell in text


def test_terminal_table_of_40_columns_loses_no_number_and_no_name() -> None:
    rows = [{**ROWS[0], "name": LONG, "latency_ms": 1234.5}, ROWS[1]]
    lines = text_of(comparison_table(rows), width=40).splitlines()
    assert "".join(lines[:2]) == LONG
    assert [line.split()[-1] for line in lines[2:9]] == list(NUMBERS)
    assert lines[3].split() == ["parameters", "(M)", "12.30"]
    assert lines[9] == "student | int8"


def test_blocks_of_40_columns_keep_their_numbers() -> None:
    counts = {"parameters": 147_700, "macs": 1_208_000_000, "latency_ms": 12.345, "latency_iqr_ms": 0.5}
    row = {"name": "3x3", **counts, **{f"{key}_ratio": 1.0 for key in ("parameters", "macs", "latency_ms")}}
    wide, narrow = (text_of(blocks_table([row]), width) for width in (120, 40))
    cells = ["3x3", "147.7", "1.00", "1208.0", "1.00", "12.35", "0.50", "1.00"]
    assert wide.splitlines()[-1].split() == cells
    assert [line.split()[-1] for line in narrow.splitlines()] == cells


def test_class_tables() -> None:
    iou = {"alone": (50.0, math.nan), "distilled": (61.26, 0.0)}
    lines = text_of(class_table(iou, ["road", "car"])).splitlines()
    assert [line.split() for line in lines[-2:]] == [["road", "50.0", "61.3"], ["car", "–", "0.0"]]
    with pytest.raises(ValueError, match="alone: 2 values for 1 classes"):
        class_table(iou, ["road"])


def test_classes_of_40_columns_keep_names_and_numbers() -> None:
    iou = {f"run{k}/student_last.pth": (100.0, k + 0.5) for k in range(6)}
    names = ["traffic light", "a class whose name is longer than half of the terminal"]
    text = text_of(class_table(iou, names), width=40)
    parts = text.split("IoU per class (%)")[1:]
    assert len(parts) > 1
    values = [cell for line in text.splitlines() for cell in line.split() if cell.replace(".", "").isdecimal()]
    assert values.count("100.0") == 6
    assert {f"{k}.5" for k in range(6)} <= set(values)
    folded = [cells for part in parts for cells in zip(*(line.split() for line in _heads(part)), strict=False)]
    assert ["".join(cells) for cells in folded] == list(iou)


def _heads(part: str) -> list[str]:
    """The lines of the networks' names, without the word over the classes."""
    lines = part.splitlines()
    rule = next(k for k, line in enumerate(lines) if "─" in line)
    return [line.replace("class", "") for line in lines[:rule] if line.strip()]


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
        jsonable({"x": object()})


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
