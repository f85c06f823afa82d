"""Folders that Hugging Face's datasets wrote, read without fetching anything."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segkd
from segkd.cli.main import main
from segkd.datasets import create
from segkd.datasets.verify import verify
from segkd.errors import UserError

H, W = 20, 30
NAMES = ("ground", "weed", "crop")


def table(count: int, image: str = "image", label: str = "annotation", **more: Any) -> Any:
    """A table of ``count`` images with ids 0..2 and 255."""
    hf = pytest.importorskip("datasets")
    rng = np.random.default_rng(count)
    images = [Image.fromarray(rng.integers(0, 256, (H, W, 3), dtype=np.uint8)) for _ in range(count)]
    labels = [Image.fromarray(rng.choice([0, 1, 2, 255], (H, W)).astype(np.uint8)) for _ in range(count)]
    kinds = {image: hf.Image(), label: hf.Image(), **{name: hf.Value("string") for name in more}}
    content = {image: images, label: labels, **{name: [value] * count for name, value in more.items()}}
    return hf.Dataset.from_dict(content, features=hf.Features(kinds))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    hf = pytest.importorskip("datasets")
    hf.disable_progress_bars()
    hf.DatasetDict({"train": table(3, scene="field"), "validation": table(2, scene="field")}).save_to_disk(
        tmp_path / "a"
    )
    return tmp_path / "a"


def test_pairs_are_those_that_the_library_decodes(root: Path) -> None:
    from datasets import load_from_disk

    data = create("huggingface", root=root, split="val", class_names=NAMES)
    assert (len(data), data.num_classes, data.name_of(1)) == (2, 3, "val_000001")
    for k, row in enumerate(load_from_disk(str(root))["validation"]):
        np.testing.assert_array_equal(data[k].image, np.array(row["image"]))
        np.testing.assert_array_equal(data.label_of(k), np.array(row["annotation"]))
    assert verify(data) == []


def test_classes_are_read_from_the_hubs_file_in_the_folder(root: Path) -> None:
    with pytest.raises(UserError, match=r"what are the classes called\? .*id2label\.json into the folder"):
        create("huggingface", root=root)
    (root / "id2label.json").write_text(json.dumps({str(k): name for k, name in enumerate(NAMES)}))
    assert create("huggingface", root=root).class_names == NAMES
    mapped = create("huggingface", root=root, class_names=["one", "two"], label_map={0: 255, 1: 0, 2: 1})
    plain = create("huggingface", root=root, class_names=NAMES)[0].label
    np.testing.assert_array_equal(mapped[0].label, np.select([plain == 1, plain == 2], [0, 1], 255))


def test_one_split_is_shared_out_by_a_seed(tmp_path: Path) -> None:
    table(10).save_to_disk(tmp_path / "one")
    parts = {
        split: create("huggingface", root=tmp_path / "one", split=split, class_names=NAMES, val=0.3)
        for split in ("train", "val")
    }
    assert [len(part) for part in parts.values()] == [7, 3]
    assert not set(parts["train"].numbers) & set(parts["val"].numbers)
    with pytest.raises(UserError, match="one split alone, of which train and val are drawn; there is no 'test'"):
        create("huggingface", root=tmp_path / "one", split="test", class_names=NAMES)


def test_columns_are_found_or_named(tmp_path: Path) -> None:
    table(2, "pixel_values", "odd").save_to_disk(tmp_path / "odd")
    assert len(create("huggingface", root=tmp_path / "odd", class_names=NAMES, val=0.5)) == 1
    table(2, "left", "right").save_to_disk(tmp_path / "two")
    with pytest.raises(UserError, match=r"which columns are image and label\? .*left \(Image\), right \(Image\)"):
        create("huggingface", root=tmp_path / "two", class_names=NAMES, val=0.5)
    named = create("huggingface", root=tmp_path / "two", class_names=NAMES, val=0.5, image="left", label="right")
    assert named[0].label.shape == (H, W)
    with pytest.raises(UserError, match="no column 'up' of images"):
        create("huggingface", root=tmp_path / "two", class_names=NAMES, val=0.5, image="up", label="right")


def test_an_id_outside_the_classes_is_named_with_its_row(root: Path) -> None:
    data = create("huggingface", root=root, class_names=NAMES[:2])
    with pytest.raises(UserError, match=r"a split 'train', row 0, label: label value 2 .* outside the classes"):
        data[0]


def test_mistakes_are_one_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds neither state\.json nor dataset_dict\.json"):
        create("huggingface", root=tmp_path / "empty", class_names=NAMES)
    with pytest.raises(UserError, match=r"has no split 'test'; there is: train, validation"):
        create("huggingface", root=root, split="test", class_names=NAMES)
    (root / "train/data-00000-of-00001.arrow").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"train cannot be read: .*save it again"):
        create("huggingface", root=root, class_names=NAMES)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r'needs Hugging Face\'s datasets: pip install "segkd\[datasets\]"'):
        create("huggingface", root=root, split="val", class_names=NAMES)


def test_such_a_folder_is_known_by_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    flags = ["--classes", str(tmp_path / "classes.txt"), "--split", "val"]
    assert main(["data", "verify", str(root), *flags, "--json", str(tmp_path / "found.json")]) == 0
    (split,) = json.loads((tmp_path / "found.json").read_text())["splits"]
    assert (split["name"], split["pairs"], split["class_names"]) == ("val", 2, list(NAMES))
    (root / "classes.txt").write_text("\n".join(NAMES))
    assert segkd.data.stats(root, progress=False).pairs == 3
