"""Class names from every kind of file in which tools write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from segkd.datasets.class_lists import ClassEntry, read_class_list
from segkd.errors import UserError

READ = [
    ("classes.txt", "\ufeffroad\n\n car \n", [("road",), ("car",)]),
    ("labelmap.txt", "# label:color_rgb:parts:actions\nroad:128,64,128::\ncar:0, 0,142::\n",
     [("road", None, (128, 64, 128)), ("car", None, (0, 0, 142))]),
    ("_classes.csv", "Pixel Value, Class\n0, road\n3, car\n", [("road", 0), ("car", 3)]),
    ("class_dict.csv", "name,r,g,b\nroad,128,64,128\ncar,0,0,142\n",
     [("road", None, (128, 64, 128)), ("car", None, (0, 0, 142))]),
    ("a.json", '["road", "car"]', [("road",), ("car",)]),
    ("a.json", '{"1": "car", "0": "road"}', [("road", 0), ("car", 1)]),
    ("a.json", '{"categories": [{"id": 1, "name": "road"}, {"id": 7, "name": "car"}]}', [("road", 1), ("car", 7)]),
    ("a.json", '[{"png_index": 1, "class_name": "road", "color": "#804080ff"}]', [("road", 1, (128, 64, 128))]),
    ("data.yaml", "train: x\nnames: [road, car]\n", [("road",), ("car",)]),
    ("data.yaml", "names:\n  0: road\n  1: car\n", [("road", 0), ("car", 1)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "entries"), READ)
def test_files(tmp_path: Path, name: str, text: str, entries: list[tuple[object, ...]]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_class_list(tmp_path / name) == [ClassEntry(*entry) for entry in entries]


def test_names_in_a_line() -> None:
    assert read_class_list("road, car") == read_class_list(["road", "car"]) == [ClassEntry("road"), ClassEntry("car")]


BAD = [
    ("classes.txt", "", "holds no class names: write a class name on each line"),
    ("classes.txt", "road\nroad\n", "names the class 'road' twice"),
    ("labelmap.txt", "road:1,2,3::\ncar:1,2,3::\n", r"names the colour \(1, 2, 3\) twice"),
    ("labelmap.txt", "road:1,2,300::\n", "R, G and B are 0..255"),
    ("_classes.csv", "0, road\n", "the first line must name the columns"),
    ("_classes.csv", "Pixel Value, Class\nx, road\n", r"_classes\.csv, line 2: 'x,road' does not fit"),
    ("a.json", '{"0": "road"', "cannot read class names"),
    ("a.json", '[{"id": 0}]', "an entry has no name"),
    ("a.json", '[{"id": 0, "name": "road"}, "car"]', "gives an id to some classes, and none to others"),
    ("data.yaml", "nc: 2\n", "names no classes"),
    ("data.yaml", "names: [a\n", "cannot read class names"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_bad_files_are_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_class_list(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
