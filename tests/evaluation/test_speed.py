from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segkd.evaluation import speed
from segkd.evaluation.speed import (
    compare_latency,
    count_macs,
    count_parameters,
    hardware,
    measure_memory,
)


def test_latency_of_known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    durations = iter([0.1] * 3 + [0.010, 0.020, 0.030, 0.040, 0.050])  # three warm-up calls, then five

    def run() -> None:
        now[0] += next(durations)

    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    got = compare_latency({"run": run}, warmup=3, repeats=5)["run"]
    assert got.median_ms == pytest.approx(30)
    assert got.iqr_ms == pytest.approx(np.subtract(*np.percentile([10, 20, 30, 40, 50], [75, 25])))
    assert got.p90_ms == pytest.approx(np.percentile([10, 20, 30, 40, 50], 90))
    assert got.min_ms == pytest.approx(10)
    assert got.fps == pytest.approx(1000 / 30)
    assert got.repeats == 5


def test_fps_counts_images_not_calls() -> None:
    got = compare_latency({"run": lambda: time.sleep(0.002)}, warmup=0, repeats=3, batch=4)["run"]
    assert got.fps == pytest.approx(4000 / got.median_ms)


def test_turns_are_reversed_on_every_other_repeat() -> None:
    calls: list[str] = []
    compare_latency({name: (lambda n=name: calls.append(n)) for name in "abc"}, warmup=1, repeats=3)
    assert "".join(calls) == "abc" + "abc" + "cba" + "abc"


def test_one_repeat_has_no_spread() -> None:
    with pytest.raises(ValueError, match="repeats"):
        compare_latency({"run": lambda: None}, repeats=1)


def test_macs_of_a_separable_block_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 5, 1),
    )
    network[1].eval()
    pixels = 16 * 24
    assert count_macs(network, (32, 48)) == pixels * (27 * 8 + 9 * 8 + 8 * 5)
    assert network.training  # and as it was, layer by layer
    assert not network[1].training
    assert network[1].num_batches_tracked == 0


def test_macs_of_fast_scnn_are_those_of_its_layers() -> None:
    from segkd.models.fast_scnn import FastSCNN

    network = FastSCNN(num_classes=19).eval()
    total = 0

    def add(module: nn.Conv2d, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(add)
    assert count_macs(network, (64, 96)) == total > 1e6


def test_parameters_count_shared_ones_once() -> None:
    shared = nn.Linear(4, 4)
    assert count_parameters(nn.Sequential(shared, nn.ReLU(), shared, nn.BatchNorm1d(4))) == 16 + 4 + 8


def test_memory_sees_what_a_call_holds_for_a_moment() -> None:
    def work() -> float:
        return float(np.ones(64 * 2**20, dtype=np.uint8).sum())  # 64 MiB, freed on return

    got = measure_memory(work)
    if got.method == "vmhwm":
        assert 60 < got.mib < 90
        assert measure_memory(lambda: None).mib < 16
        assert 60 < measure_memory(work).mib < 90  # a second time too: the mark was reset
    else:
        assert got.mib >= 0


def test_memory_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_reset_high_water_mark", lambda: False)
    got = measure_memory(lambda: np.ones(8).sum())
    assert got.method == "maxrss"
    assert got.mib >= 0


def test_hardware_is_plain_and_names_the_machine() -> None:
    got = json.loads(json.dumps(hardware()))
    assert got["torch"] == torch.__version__
    assert got["threads"] == torch.get_num_threads()
    assert got["cpu"]
    assert got["cores"] >= 1
    assert got["onnxruntime"]


def test_speed_pastes_into_any_project() -> None:
    text = Path(speed.__file__).read_text()
    assert "mmengine" not in text
    assert "segkd" not in text
