"""What files beside the data say is held against them: kept images, lists, ids of classes, names with blanks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkd.cli.data_verify import grouped
from segkd.datasets import create
from segkd.datasets.class_lists import read_class_list
from segkd.datasets.image_cache import ImageCache
from segkd.errors import UserError


def folder(root: Path, names: tuple[str, ...] = ("a", "b c", "d"), value: int = 1) -> Path:
    for side in ("images", "labels"):
        (root / side).mkdir(parents=True)
    for name in names:
        Image.fromarray(np.full((8, 12, 3), 7, np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(np.full((8, 12), value, np.uint8)).save(root / "labels" / f"{name}.png")
    (root / "classes.txt").write_text("x\ny\n", encoding="utf-8")
    return root


def later(path: Path) -> None:
    """A file as changed a second later."""
    about = path.stat()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 10**9))


def test_a_second_mask_of_an_image_that_changes_is_seen_by_the_cache(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(tmp_path / "images" / "0.png")
    for name, rows in (("x", slice(0, 2)), ("y", slice(4, 6))):
        (tmp_path / "labels" / name).mkdir(parents=True)
        mask = np.zeros((8, 12), np.uint8)
        mask[rows] = 255
        Image.fromarray(mask).save(tmp_path / "labels" / name / "0.png")
    given = dict(root=tmp_path, class_names=["x", "y"], format="binary")
    cache = ImageCache(create("folder", **given), tmp_path / "cache")
    cache.write(0)
    assert cache.missing() == []
    later(tmp_path / "labels" / "y" / "0.png")
    assert cache.missing() == [0]


def test_colours_and_ids_of_a_class_list_beside_the_data_are_seen_by_the_cache(tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    (root / "classes.txt").unlink()
    kept = []
    for text in ([7, 1], [1, 7]):
        (root / "classes.json").write_text(
            json.dumps([dict(name=name, id=one) for name, one in zip("xy", text, strict=True)]), encoding="utf-8"
        )
        data = create("folder", root=root)
        cache = ImageCache(data, tmp_path / "cache")
        kept.append((cache.read(0), int(data[0].label[0, 0])))
        cache.write(0)
    assert [value for _, value in kept] == [1, 0]
    assert [sample for sample, _ in kept] == [None, None]


@pytest.mark.parametrize(("ids", "want"), [(("7", "3"), (7, 3)), ((7, 3), (7, 3))])
def test_ids_written_as_text_count(tmp_path: Path, ids: Any, want: Any) -> None:
    file = tmp_path / "classes.json"
    file.write_text(json.dumps([dict(name=n, id=one) for n, one in zip("xy", ids, strict=True)]), encoding="utf-8")
    assert tuple(entry.stored for entry in read_class_list(file)) == want


@pytest.mark.parametrize("wrong", ["seven", 1.5, True])
def test_an_id_that_is_no_integer_is_refused(tmp_path: Path, wrong: Any) -> None:
    file = tmp_path / "classes.json"
    file.write_text(json.dumps([dict(name="x", id=wrong)]), encoding="utf-8")
    with pytest.raises(UserError, match=r"classes.json: the id .* of a class is no integer$"):
        read_class_list(file)


def test_the_line_of_a_wrong_row_counts_empty_ones(tmp_path: Path) -> None:
    file = tmp_path / "classes.csv"
    file.write_text("id,name\n\n0,x\n\nfive,y\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 5: 'five,y'"):
        read_class_list(file)


@pytest.mark.parametrize("rows", [["a.png", "d.png labels/d.png"], ["d.png labels/d.png", "a.png"]])
def test_a_list_of_which_some_lines_name_a_label_is_refused(tmp_path: Path, rows: list[str]) -> None:
    root = folder(tmp_path / "data")
    (tmp_path / "list.txt").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(UserError, match=r"list.txt, line \d: no label, where other lines have one"):
        create("folder", root=root, lists=tmp_path / "list.txt")


def test_a_subset_by_names_that_hold_blanks(tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    (tmp_path / "names.txt").write_text("b c\nd\n", encoding="utf-8")
    data = create("subset", of="folder", root=root, names=tmp_path / "names.txt")
    assert [data.name_of(k) for k in range(len(data))] == ["b c", "d"]


def test_a_problem_of_many_files_is_a_line() -> None:
    def many(what: str) -> list[str]:
        return [f"/d/{k}.png: {what.format(k=k)}" for k in range(9)]

    found = list(
        grouped([*many("no label file '{k}.png'"), "/d/x.png: it is damaged", *many("label values 7, {k} (5")])
    )
    assert found == [
        "9 files such as /d/0.png: no label file '0.png' (--json lists all)",
        "/d/x.png: it is damaged",
        "9 files such as /d/0.png: label values 7, 0 (5 (--json lists all)",
    ]
    assert list(grouped(many("damaged")[:3])) == many("damaged")[:3]
