"""``segkd bench``: each model in its own process, over batches and threads."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch
from cli_kit import Refused, Run

NETWORK = """
import os
import signal

from torch import nn

from segkd.models import Network


class Deadly(Network):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.classifier = nn.Conv2d(3, num_classes, 1, bias=False)

    def forward(self, x):
        os.kill(os.getpid(), signal.SIGSEGV)
"""
CONFIG = """
from deadly_network import Deadly
from torch.optim import AdamW

from segkd.datasets.synthetic import SyntheticStreets
from segkd.datasets.transforms import TrainTransform
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=Deadly, num_classes=11))
data = dict(
    dataset=dict(type=SyntheticStreets, size=(64, 96), seed=0),
    train=dict(split="train", length=2),
    val=dict(split="val", length=2),
    augment=dict(type=TrainTransform, crop_size=(64, 96)),
)
optim = dict(optimizer=dict(type=AdamW, lr=1e-2))
schedule = dict(steps=2)
"""


def test_the_rest_is_timed_where_one_ends_its_process(
    segkd: Run, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly_network.py").write_text(NETWORK)
    (tmp_path / "deadly.py").write_text(CONFIG)
    monkeypatch.syspath_prepend(str(tmp_path))
    network = importlib.import_module("deadly_network").Deadly(11)
    torch.save(network.state_dict(), tmp_path / "deadly.pth")
    words = ("bench", "deadly.py", "deadly.pth", exported, "--batch", "1,2", "--threads", "1", "--repeats", 2)
    result = segkd(*words, "--json", "bench.json")
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert line.startswith("segkd bench: error: 1 of 2 models could not be timed: deadly.pth: its process was ended by")
    assert "SIGSEGV" in line
    content = json.loads((tmp_path / "bench.json").read_text())
    dead, alive = sorted(content["rows"], key=lambda row: "crashed" not in row)
    assert set(dead) == {"name", "crashed"}
    assert alive["latency_ms"] > 0
    assert [(row["threads"], row["batch"]) for row in content["scaling"]] == [(1, 1), (1, 2)]
    assert "x FPS of" in result.out
    assert exported.name in result.out


def test_one_number_alone(refused: Refused) -> None:
    words = ("--student", "fast_scnn", "--data", "synthetic")
    assert "--batch takes one number here" in refused("bench", "blocks", "--batch", "1,2")
    assert "--threads takes one number here" in refused("bench", "step", *words, "--threads", "1,2")
    assert "'x' is no integer from 1 up" in refused("bench", *words, "--batch", "1,x")
