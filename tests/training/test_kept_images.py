"""A training with ``data.cache``: the same weights, the images kept before the first step, and said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import config

from segkd.errors import UserError
from segkd.training.config import Config
from segkd.training.loop import train
from segkd.training.state import LAST


class Seen:
    """Notes what a training tells of the images that it keeps."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def after_image_kept(self, training: Any, said: str, done: int, total: int) -> None:
        assert training.iter == 0
        assert said.startswith("keeping 12 decoded images, 0.00 GB of ")
        self.told.append((done, total))


def test_the_weights_are_the_same(tmp_path: Path) -> None:
    cfg, seen = config(schedule=dict(steps=2, val_interval=2)), Seen()
    train(cfg, tmp_path / "plain")
    cfg["data"]["cache"] = str(tmp_path / "kept")
    cfg["data"]["dataset"]["cache"] = False
    train(cfg, tmp_path / "cached", hooks=[seen])
    assert seen.told == [(done, 12) for done in range(13)]
    assert len(list((tmp_path / "kept").rglob("*.raw"))) == 12
    one, two = (torch.load(tmp_path / name / LAST, weights_only=True) for name in ("plain", "cached"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    lines = [json.loads(line) for line in (tmp_path / "cached" / "log.jsonl").read_text().splitlines()]
    assert [line["note"] for line in lines if "keeping" in line.get("note", "")] != []


@pytest.mark.parametrize(("given", "taken"), [(True, True), (False, False), (Path("x"), "x"), ("x", "x")])
def test_the_key(given: Any, taken: Any) -> None:
    cfg = config()
    cfg["data"]["cache"] = given
    assert Config.of(cfg).data.cache == taken
    cfg["data"]["cache"] = 3
    with pytest.raises(UserError, match=r"data\.cache must be True or False, or a folder, got 3"):
        Config.of(cfg)
