"""``segkd eval``, ``bench``, ``export``, ``quantize``, ``predict``: what they print, and the JSON beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from cli_kit import SYNTHETIC, Refused, Run
from sampling import sampled

from segkd.datasets.camvid import CamVid
from segkd.files import named
from segkd.models import create, load_weights
from segkd.training.configfile import dump_config
from segkd.workbench.composing import compose

ROOT = Path(__file__).resolve().parents[2]


def plain_miou(weights: Path, tree: Path, split: str, flip: bool = False) -> float:
    """mIoU in numpy, straight from the definition."""
    network = create("fast_scnn", num_classes=11).eval()
    load_weights(network, weights)
    hit, union = np.zeros(11), np.zeros(11)
    for image, label in (CamVid(tree, split)[k] for k in range(2)):
        with torch.no_grad():
            batch = torch.from_numpy(image).permute(2, 0, 1)[None]
            logits = network.predict(batch)
            if flip:
                logits = logits.softmax(1) + network.predict(batch.flip(-1)).flip(-1).softmax(1)
        guess, keep = logits[0].argmax(0).numpy(), label != 255
        for k in range(11):
            hit[k] += ((guess == k) & (label == k) & keep).sum()
            union[k] += (((guess == k) | (label == k)) & keep).sum()
    return float(100 * (hit[union > 0] / union[union > 0]).mean())


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_eval_scores_the_teacher_too(segkd: Run, refused: Refused, trained: Path, tree: Path, tmp_path: Path) -> None:
    weights = trained / "student_last.pth"
    cfg = compose("fast_scnn", teacher=f"fast_scnn@{weights}", recipe="kd_cwd", data="camvid", root=tree)
    dump_config(cfg, tmp_path / "taught.py")
    json_file = tmp_path / "eval.json"
    result = segkd("eval", "taught.py", weights, "--teacher", "--no-speed", "--split", "test", "--json", json_file)
    assert result.code == 0, result.err
    rows = read(json_file)["rows"]
    assert [row["name"] for row in rows] == ["teacher", "student_last.pth"]
    assert rows[0]["miou"] == rows[1]["miou"]
    assert "has no teacher" in refused("eval", trained, weights, "--teacher")


def test_eval_averages_over_views(segkd: Run, refused: Refused, trained: Path, tree: Path, tmp_path: Path) -> None:
    weights, found = trained / "student_last.pth", {}
    views = {"plain": [], "flip": ["--flip"], "scales": ["--scales", "0.5,1"], "window": ["--window", "40x40"]}
    for name, options in views.items():
        result = segkd("eval", trained, weights, "--no-speed", *options, "--json", tmp_path / f"{name}.json")
        assert result.code == 0, result.err
        found[name] = read(tmp_path / f"{name}.json")["rows"][0]["miou"]
    assert found["flip"] == pytest.approx(plain_miou(weights, tree, "val", flip=True), abs=1e-4)
    assert len(set(found.values())) == 4
    assert "'0.5,x' are no factors" in refused("eval", trained, weights, "--scales", "0.5,x")


def test_eval_scores_weights_and_onnx_alike(
    segkd: Run, trained: Path, exported: Path, tree: Path, tmp_path: Path
) -> None:
    weights = trained / "student_last.pth"
    result = segkd("eval", trained, weights, exported, "--split", "test", "--json", tmp_path / "deep" / "eval.json")
    assert result.code == 0, result.err
    assert "CamVid test, 2 images" in result.out
    content = read(tmp_path / "deep" / "eval.json")
    torch_row, onnx_row = content["rows"]
    expected = plain_miou(weights, tree, "test")
    assert torch_row["miou"] == pytest.approx(expected, abs=1e-9)
    assert onnx_row["miou"] == pytest.approx(expected, abs=0.05)
    assert f"{expected:.2f}" in result.out
    assert (torch_row["name"], onnx_row["name"]) == ("student_last.pth", "student.onnx")
    assert torch_row["parameters"] == onnx_row["parameters"] == sum(
        p.numel() for p in create("fast_scnn", num_classes=11).parameters()
    )  # fmt: skip
    assert onnx_row["file_bytes"] == exported.stat().st_size
    assert {"versions", "hardware", "git_commit", "seed"} <= content.keys()
    assert max(map(len, result.out.splitlines())) <= 120


def test_eval_of_a_run_folder_alone_scores_its_best_student(
    segkd: Run, refused: Refused, trained: Path, tree: Path, tmp_path: Path
) -> None:
    result = segkd("eval", trained, "--no-speed", "--json", tmp_path / "eval.json")
    assert result.code == 0, result.err
    (row,) = read(tmp_path / "eval.json")["rows"]
    assert row["miou"] == pytest.approx(plain_miou(trained / "student_best.pth", tree, "val"), abs=1e-9)
    assert "name weights or .onnx" in refused("eval", "--student", "fast_scnn", "--data", "camvid", "--root", tree)


@pytest.mark.parametrize("command", sampled(["bench", "eval"], 2))
def test_a_terminal_of_40_columns_shows_names_and_numbers(
    trained: Path, exported: Path, tmp_path: Path, command: str
) -> None:
    files = [str(trained / "student_last.pth"), str(exported)]
    out = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, "-m", "segkd", command, str(trained), *files, "--json", str(out)],
        cwd=ROOT, env={**os.environ, "COLUMNS": "40"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for row in read(out)["rows"]:
        at = lines.index(row["name"])
        told = dict(line.strip().rsplit(maxsplit=1) for line in lines[at + 1 : at + 8] if line.startswith("  "))
        assert told["parameters (M)"] == f"{row['parameters'] / 1e6:.2f}"
        assert told["latency (ms)"] == f"{row['latency_ms']:.1f}"
        assert told["size (MiB)"] == f"{row['file_bytes'] / 2**20:.2f}"
        assert ("mIoU (%)" in told) is (command == "eval")


def test_eval_without_speed_leaves_the_columns_out(segkd: Run, trained: Path) -> None:
    result = segkd("eval", trained, trained / "student_last.pth", "--no-speed")
    assert result.code == 0
    assert "latency" not in result.out
    assert "mIoU" in result.out


def test_eval_resizes_for_an_onnx_file_of_another_size_if_asked(segkd: Run, exported: Path, tmp_path: Path) -> None:
    scenes = ["--set", "data.dataset.size=80,112", "--set", "data.val.length=2"]
    json_file = ["--json", tmp_path / "eval.json"]
    result = segkd("eval", *SYNTHETIC, exported, *scenes, "--resize", *json_file)
    assert result.code == 0, result.err
    row = read(tmp_path / "eval.json")["rows"][0]
    assert row["size"] == [64, 96]
    assert "macs" not in row  # there is no network beside it whose MACs it would have


def test_files_get_the_shortest_names_that_tell_them_apart() -> None:
    assert list(named(["a/x.pth", "a/y.pth"])) == ["x.pth", "y.pth"]
    assert list(named(["r/a/x.pth", "r/b/x.pth", "y.pth"])) == ["a/x.pth", "b/x.pth", "y.pth"]
    assert list(named(["r/a/w/x.pth", "r/b/w/x.pth"])) == ["a/w/x.pth", "b/w/x.pth"]
    assert list(named(["w/x.pth", "a/w/x.pth"]).values()) == [Path("w/x.pth"), Path("a/w/x.pth")]


def test_bench_times_at_the_onnx_files_size(
    segkd: Run, trained: Path, exported: Path, int8: Path, tmp_path: Path
) -> None:
    weights = trained / "student_last.pth"
    files = ["bench", trained, weights, exported, int8, "--repeats", 3, "--threads", 1]
    result = segkd(*files, "--json", tmp_path / "bench.json", "--set", "data.augment.crop_size=96,96")
    assert result.code == 0, result.err
    assert "images of 64x96 (HxW), batch 1, 1 threads" in result.out
    content = read(tmp_path / "bench.json")
    for row in content["rows"]:
        assert row["size"] == [64, 96]
        assert row["latency_ms"] > 0
        assert row["fps"] == pytest.approx(1000 / row["latency_ms"])
        assert row["macs"] == content["rows"][0]["macs"] > 0
    assert content["rows"][1]["peak_memory_mib"] > 1  # the weights alone are 4.4 MiB


def test_bench_needs_no_file(segkd: Run) -> None:
    result = segkd("bench", *SYNTHETIC, "--size", "32x64", "--repeats", 2)
    assert result.code == 0, result.err
    assert "student, untrained" in result.out


def test_export_writes_beside_the_weights_and_tells_the_parity(segkd: Run, trained: Path, tmp_path: Path) -> None:
    weights = tmp_path / "mine.pth"
    weights.write_bytes((trained / "student_last.pth").read_bytes())
    result = segkd("export", trained, "--weights", weights, "--size", "32x64", "--json", tmp_path / "export.json")
    assert result.code == 0, result.err
    file = tmp_path / "mine_32x64.onnx"
    assert result.out.splitlines()[0] == str(file)
    session = onnxruntime.InferenceSession(str(file))
    assert session.get_outputs()[0].shape == ["batch", 11, 32, 64]
    assert [p["batch"] for p in read(tmp_path / "export.json")["parity"]] == [1, 3]


def test_export_finds_a_runs_best_student_and_a_releases(
    segkd: Run, refused: Refused, trained: Path, tmp_path: Path
) -> None:
    result = segkd("export", trained, "--size", "32x64", "--out", tmp_path / "best.onnx")
    assert result.code == 0, result.err
    assert (tmp_path / "best.onnx").is_file()
    result = segkd("export", "light_fpn_synthetic", "--size", "32x64")
    assert result.code == 0, result.err
    assert result.out.splitlines()[0] == "light_fpn_synthetic_32x64.onnx"  # here, not in the release's folder
    assert Path("light_fpn_synthetic_32x64.onnx").is_file()
    assert "--weights" in refused("export", *SYNTHETIC, "--size", "32x64")


def test_quantize_compares_all_three_if_asked(segkd: Run, trained: Path, exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "q" / "int8.onnx"
    weights = trained / "student_last.pth"
    comparison = ["--weights", weights, "--split", "val", "--images", 3]
    result = segkd("quantize", trained, exported, "--out", out, *comparison, "--json", tmp_path / "q.json")
    assert result.code == 0, result.err
    content = read(tmp_path / "q.json")
    assert [row["name"] for row in content["rows"]] == ["torch", "ONNX float32", "ONNX int8"]
    assert all(row["miou"] >= 0 and row["fps"] > 0 for row in content["rows"])
    assert content["rows"][2]["file_bytes"] == out.stat().st_size < exported.stat().st_size / 2
    assert content["images"] == 3
    assert "ONNX int8" in result.out


def test_predict_takes_a_jpeg_of_another_size(
    segkd: Run, int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), image)
    result = segkd("predict", tmp_path / "photo.jpg", "--model", int8)
    assert result.code == 0, result.err
    overlay = cv2.imread(str(tmp_path / "here" / "photo_segmented.png"))
    assert overlay.shape == (90, 130, 3)
    shares = [float(line.split()[-2]) for line in result.out.splitlines() if line.endswith("%")]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert shares == sorted(shares, reverse=True)
    assert (
        segkd("predict", tmp_path / "photo.jpg", "--model", int8, "--alpha", 0, "--out", tmp_path / "o.png").code == 0
    )
    photo = cv2.imread(str(tmp_path / "photo.jpg"))
    assert np.array_equal(cv2.imread(str(tmp_path / "o.png")), photo)
