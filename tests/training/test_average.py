"""The moving average of the student: against torch's own, over a resumed run, scored and kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_training import Watch, config
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from segkd.models import load_weights
from segkd.models.fast_scnn import FastSCNN
from segkd.training.average import Average
from segkd.training.loop import train
from segkd.training.state import BEST, EMA, LAST


def moved(network: nn.Module) -> None:
    """Other weights and statistics, as after a step."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += torch.randn_like(parameter)
    network.train()(torch.randn(2, 3, 64, 64))


def test_it_follows_as_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's takes the first weights as they are, and has the full decay from there on; so does ours after long."""
    torch.manual_seed(0)
    network = FastSCNN(3)
    ours = Average(network, 0.9)
    ours.updates = 10_000
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(network)
    for _ in range(3):
        moved(network)
        ours.update(network)
        theirs.update_parameters(network)
    expected = dict(theirs.module.named_parameters())
    for name, value in ours.network.named_parameters():
        torch.testing.assert_close(value, expected[name])
    count = next(key for key in network.state_dict() if key.endswith("num_batches_tracked"))
    assert int(ours.network.state_dict()[count]) == 3


def test_the_start_is_soon_forgotten() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    average = Average(network, 0.999)  # type: ignore[arg-type]
    nn.init.constant_(network.weight, 1.0)
    for _ in range(20):
        average.update(network)  # type: ignore[arg-type]
    assert float(average.network.weight) > 0.99  # 0.02 at the full decay


def test_a_resumed_average_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    cfg = config(engine=dict(ema=0.9))
    train(cfg, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(cfg, tmp_path / "run", hooks=[Watch(crash_at=3)])
    train(cfg, tmp_path / "run", resume=True)
    whole, run = (torch.load(tmp_path / name / "state.pth", weights_only=True)["average"] for name in ("whole", "run"))
    assert whole["updates"] == run["updates"] == 4
    assert all(torch.equal(value, run["network"][key]) for key, value in whole["network"].items())


def test_it_is_scored_and_kept_and_changes_no_weight_of_the_student(tmp_path: Path) -> None:
    metrics = train(config(engine=dict(ema=0.9)), tmp_path / "run")
    train(config(), tmp_path / "without")
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    scores = [record["val_ema"]["mIoU"] for record in records if "val_ema" in record]
    assert len(scores) == 2
    assert metrics["ema_best"]["mIoU"] == max(scores)
    assert metrics["student_ema"] == EMA
    network = FastSCNN(11)
    load_weights(network, tmp_path / "run" / EMA)  # as any weights: for eval and export
    for name in (LAST, BEST):
        a, b = (torch.load(tmp_path / run / name, weights_only=True) for run in ("run", "without"))
        assert all(torch.equal(value, b[key]) for key, value in a.items())
    assert not (tmp_path / "without" / EMA).exists()
