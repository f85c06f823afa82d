"""The machine's peak, operators' shares of the time, and the ratios and warnings beside times."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pyramid_net import SIZE

from segkd.deploy.parity import random_images
from segkd.deploy.peak import GMAC, measure_peaks, operator_times
from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.runtimes import OnnxRuntime
from segkd.evaluation.speed import Latency
from segkd.report.tables import noise_lines, peak_lines
from segkd.workbench.timing import time_models


def test_peaks_are_of_the_convolution_that_they_say() -> None:
    assert pytest.approx(256 * 256 * 9 * 4096 / 1e9) == GMAC
    peaks = measure_peaks(threads=1, repeats=2)
    assert set(peaks) == {"float32", "int8"}
    assert all(1 < value < 1e5 for value in peaks.values())


def test_operators_shares(exported: Path) -> None:
    image = OnnxRuntime(exported).to_input(random_images(1, SIZE))
    shares = operator_times(exported, {"image": image})
    assert sum(shares.values()) == pytest.approx(100)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert "Resize" in shares
    assert any("Conv" in op for op in shares)


def test_int8_is_held_against_the_float_file_of_the_same_runtime(exported: Path, tmp_path: Path) -> None:
    quantize_onnx(exported, tmp_path / "int8.onnx", [random_images(2, SIZE)])
    models = {"float": OnnxRuntime(exported), "int8": OnnxRuntime(tmp_path / "int8.onnx")}
    rows = {row["name"]: row for row in time_models(models, SIZE, repeats=3)}
    assert "speedup" not in rows["float"]
    assert rows["int8"]["speedup"] == pytest.approx(rows["float"]["latency_ms"] / rows["int8"]["latency_ms"])
    assert rows["int8"]["latency_min_ms"] <= rows["int8"]["latency_ms"] <= rows["int8"]["latency_p99_ms"]
    assert torch.get_num_threads() > 0


def test_noise_and_shares_are_said() -> None:
    assert Latency(14, 1, 15, 10, 71, 9, 16).noisy
    assert not Latency(12, 1, 15, 10, 83, 9, 16).noisy
    rows = [
        {"name": "a", "noisy": True, "latency_ms": 14.0, "latency_min_ms": 10.0, "gmacs_per_s": 50.0},
        {"name": "b", "noisy": False},
    ]
    (line,) = noise_lines(rows)
    assert line.startswith("a: noisy: the median of 14.0 ms is far above the best of 10.0")
    assert list(peak_lines(rows, {})) == []
    assert list(peak_lines(rows, {"float32": 100.0, "int8": 300.0}))[1:] == ["a: 50 GMAC/s, 50 % of the float32 peak"]
