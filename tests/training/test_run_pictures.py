"""Pictures in a run's folder: curves of its log, and validation images with truth and prediction."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from processes import two_processes
from test_training import config

from segkd.errors import UserError
from segkd.report.curves import draw_curves
from segkd.report.pictures import colourise
from segkd.training.build import build_dataset
from segkd.training.loop import train
from segkd.training.pictures import LONGEST, ValImages, shrunk


def read(path: Path) -> Any:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


class Seen:
    """Keeps what was predicted."""

    def __init__(self) -> None:
        self.predictions: list[Any] = []

    def after_val_iter(self, training: Any, batch_idx: int, data_batch: Any, outputs: torch.Tensor) -> None:
        self.predictions.append(outputs[0].numpy())


def test_a_run_draws_its_curves_and_validation_images(tmp_path: Path) -> None:
    cfg, seen = config(engine=dict(val_images=2)), Seen()
    train(cfg, tmp_path, hooks=[seen])
    assert sorted(p.name for p in (tmp_path / "val_images").iterdir()) == ["step_000002.png", "step_000004.png"]
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert np.array_equal(read(tmp_path / "curves.png"), draw_curves(records, "mIoU"))
    data = build_dataset(cfg, "val")
    sheet = read(tmp_path / "val_images" / "step_000004.png")
    bar = sheet.shape[0] - 2 * 52 - 4
    for row, index in enumerate((0, 2)):  # 2 of 3 images
        top = bar + 4 + row * 52
        cells = [sheet[top : top + 48, 4 + k * 68 : 68 + k * 68] for k in range(3)]
        image, label = data[index]
        assert np.array_equal(cells[0], image)
        assert np.array_equal(cells[1], colourise(label, data.palette))
        assert np.array_equal(cells[2], colourise(seen.predictions[3 + index], data.palette))


def test_none_are_drawn_where_none_are_wanted(tmp_path: Path) -> None:
    train(config(engine=dict(val_images=0)), tmp_path)
    assert not (tmp_path / "val_images").exists()
    assert (tmp_path / "curves.png").is_file()
    with pytest.raises(UserError, match=r"engine.val_images must be a.* from 0, got -1"):
        train(config(engine=dict(val_images=-1)), tmp_path / "other")


@pytest.mark.parametrize(("count", "chosen"), [(4, {12, 37, 63, 88}), (1, {50}), (200, set(range(101)))])
def test_they_are_spread_over_the_split(count: int, chosen: set[int]) -> None:
    hook = ValImages(count)
    hook.before_val_epoch(SimpleNamespace(val_dataloader=range(101)))
    assert hook.chosen == chosen


def test_large_ones_are_made_small_and_keep_their_classes() -> None:
    label = np.random.default_rng(0).choice(np.array([3, 9, 255], np.uint8), (1024, 2048))
    assert shrunk(np.zeros((1024, 2048, 3), np.uint8)).shape == (240, LONGEST, 3)
    assert shrunk(label).shape == (240, LONGEST)
    assert set(np.unique(shrunk(label))) == {3, 9, 255}
    assert shrunk(label[:300, :400]).shape == (300, 400)


def one_of_two(rank: int, folder: Path, port: int) -> None:
    import os

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    hook = Rank()
    train(config(schedule=dict(steps=2, val_interval=2)), folder, hooks=[hook])
    assert hook.drew == (rank == 0)


class Rank:
    """Sees whether this process draws."""

    drew = False

    def before_run(self, training: Any) -> None:
        self.drew = any(isinstance(hook, ValImages) for hook in training.hooks.hooks)


def test_only_the_first_process_draws(tmp_path: Path) -> None:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    two_processes(one_of_two, tmp_path / "run", port)
    sheet = read(tmp_path / "run" / "val_images" / "step_000002.png")
    assert (sheet.shape[0] - 4) // 52 == 2  # its share of 3 images
