"""``segkd demo``, made as small as it goes: everything it promises is there at the end."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import torch
from cli_kit import Run, loss_records

ROWS = ["teacher", "student alone", "student distilled", "distilled, ONNX", "distilled, int8"]


def test_demo_ends_with_table_metrics_and_picture(segkd: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [f"data.{part}.length=8" for part in ("train", "val")]
    sizes = [f"data.{key}=32,64" for key in ("dataset.size", "augment.crop_size")]
    monkeypatch.setattr("segkd.cli.demo.SMALLER", (*lengths, *sizes))
    small = ["--steps", 2, "--images", 3]
    result = segkd("demo", "--out", tmp_path / "demo", *small)
    assert result.code == 0, result.err
    out = tmp_path / "demo"
    content = json.loads((out / "metrics.json").read_text())
    assert [row["name"] for row in content["rows"]] == ROWS
    for row in content["rows"]:
        assert {"miou", "parameters", "macs", "latency_ms", "fps", "file_bytes"} <= row.keys()
        assert row["name"].split(",")[0] in result.out
    assert content["rows"][3]["parameters"] == content["rows"][2]["parameters"] != content["rows"][0]["parameters"]
    gain = content["rows"][2]["miou"] - content["rows"][1]["miou"]
    assert f"distilled against alone: {gain:+.2f} mIoU" in " ".join(result.out.split())
    picture = cv2.imread(str(out / "comparison.png"))
    assert picture.shape[1] > 6 * 64  # image, truth and four networks
    assert picture.shape[0] > 3 * 32
    for arm, distilled in (("student_alone", False), ("student_distilled", True)):
        assert ("loss_bind_logits" in loss_records(out / arm)[0]) is distilled
        assert torch.load(out / arm / "state.pth", weights_only=True)["step"] == 2
    (out / "stale.txt").touch()
    monkeypatch.setattr("segkd.cli.demo._train", _stop)
    with pytest.raises(ZeroDivisionError):
        segkd("demo", "--out", out, *small)
    assert not (out / "stale.txt").exists()  # a second demo starts anew


def _stop(*args: object) -> None:
    raise ZeroDivisionError
