"""What holds for every data set that is known by name, without a file of it."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from segkd.cli.main import parse
from segkd.datasets import DATASETS, names
from segkd.datasets.base import IGNORE
from segkd.errors import UserError
from segkd.training.configfile import parts
from segkd.workbench.composing import read_part

ROOT = Path(__file__).resolve().parents[2]
#: made of what the user names, or drawn
OWN = {"folder", "concat", "subset", "huggingface", "synthetic"}
PUBLISHED = sorted(set(names()) - OWN)
PAGES = {
    "camvid32": "camvid",
    "ade20k_full": "ade20k",
    "mapillary_v2": "mapillary",
    "pascal_context_59": "pascal_context",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_classes_colours_counts_and_licence_are_known(name: str) -> None:
    kind = DATASETS.get(name)
    assert 2 <= len(kind.class_names) == len(kind.palette) < IGNORE
    assert len(set(kind.class_names)) == len(kind.class_names)
    assert all(len(colour) == 3 and 0 <= min(colour) <= max(colour) <= 255 for colour in kind.palette)
    assert {"train", "val"} <= kind.counts.keys()
    assert set(kind.splits) <= kind.counts.keys()
    assert kind.licence.startswith("http")


@pytest.mark.parametrize("name", PUBLISHED)
def test_there_is_a_page_with_layout_and_licence_and_a_config(name: str) -> None:
    page = (ROOT / "datasets" / PAGES.get(name, name) / "README.md").read_text(encoding="utf-8")
    assert name in page
    assert DATASETS.get(name).licence in page
    assert "segkd data verify" in page
    assert "ROOT/" in page
    assert name in parts("data")
    assert read_part("data", name)["data"]["dataset"]["type"] is DATASETS.get(name)


@pytest.mark.parametrize("name", sorted(OWN))
def test_those_without_an_owner_have_a_page_too(name: str) -> None:
    assert name in (ROOT / "datasets" / name / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_missing_and_an_empty_root_are_named_in_a_line(name: str, tmp_path: Path) -> None:
    for root, message in ((tmp_path / "none", "root folder not found: "), (tmp_path, "")):
        with pytest.raises(UserError) as caught:
            DATASETS.create(name, root=root, split="val")
        assert message + str(root) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_unknown_split_is_told_with_those_that_there_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no split 'vall'; there is: .*val"):
        DATASETS.create(name, root=tmp_path, split="vall")


SHOWN = sorted((ROOT / "datasets").rglob("README.md"))


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.parent.name)
def test_what_a_page_tells_to_type_is_understood(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.startswith("    segkd "):
            parse(shlex.split(line.partition("  #")[0])[1:])
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        variables: dict[str, Any] = {}
        exec(block, variables)
        section = variables["data"]
        for split in {"train", "val", "test"} & section.keys():
            kind = DATASETS.resolve((section["dataset"] | section[split])["type"])
            known = inspect.signature(kind).parameters
            assert {*section["dataset"], *section[split]} - {"type"} <= known.keys()
