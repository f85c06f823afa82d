"""The shipped schedules in mmsegmentation's numbers, whatever the student and the data."""

from __future__ import annotations

import pytest
import torch

from segkd.training.config import Config
from segkd.training.rates import Rates
from segkd.workbench.composing import compose

CROPS = {"cityscapes": ((512, 1024), 8), "ade20k": ((512, 512), 16), "mapillary": ((512, 1024), 8)}


@pytest.mark.parametrize("data", CROPS)
@pytest.mark.parametrize(("schedule", "steps"), [("20k", 20000), ("40k", 40000), ("80k", 80000), ("160k", 160000)])
def test_rates_are_those_of_its_poly_policy(data: str, schedule: str, steps: int) -> None:
    cfg = Config.of(compose("fast_scnn", data=data, schedule=schedule, overrides=["data.root=somewhere"]))
    assert (cfg.data.augment["crop_size"], cfg.data.batch_size) == CROPS[data]
    assert (cfg.schedule.steps, cfg.schedule.val_interval, cfg.schedule.warmup) == (steps, steps // 10, 0)
    assert cfg.data.dataset["root"] == "somewhere"
    settings = {key: value for key, value in cfg.optim.optimizer.items() if key != "type"}
    assert settings == dict(lr=0.01, momentum=0.9, weight_decay=5e-4)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], **settings)
    rates = Rates(optimizer, cfg.schedule, steps)
    rates.go_to(steps // 4)
    expected = 1e-4 + (0.01 - 1e-4) * 0.75**0.9  # as PolyLR with eta_min=1e-4 and power=0.9
    assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-6)
