"""Released students: what their folders hold is whole, fits together, and does what the card says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from segkd.cli.main import main
from segkd.datasets.camvid import CamVid
from segkd.datasets.loading import eval_loader
from segkd.deploy.runtimes import OnnxRuntime
from segkd.evaluation.inference import evaluate
from segkd.models import load_weights
from segkd.training.build import build_student, class_names
from segkd.training.configfile import load_config

ROOT = Path(__file__).parents[1]
RELEASED = sorted(path.parent for path in (ROOT / "models").glob("*/SHA256SUMS"))
FILES = {"README.md", "SHA256SUMS", "config.py", "metrics.json", "student.pth", "student_int8.onnx"}

by_folder = pytest.mark.parametrize("folder", RELEASED, ids=lambda folder: folder.name)


def metrics_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return content


def test_the_default_of_predict_is_released() -> None:
    assert "fast_scnn_camvid" in {folder.name for folder in RELEASED}


@by_folder
def test_files_are_there_and_unchanged(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").split()
    sums = dict(zip(lines[1::2], lines[::2], strict=True))
    assert set(sums) == {"student.pth", "student_int8.onnx"}
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


@by_folder
def test_weights_config_and_int8_file_belong_together(folder: Path) -> None:
    cfg = load_config(str(folder / "config.py"), [])
    network = build_student(cfg)
    load_weights(network, folder / "student.pth")
    network.eval()
    int8 = OnnxRuntime(folder / "student_int8.onnx", threads=2)
    assert list(int8.metadata["class_names"]) == list(class_names(cfg)[0])
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, *int8.size), dtype=np.uint8))
    with torch.no_grad():
        want = network.predict(image)
    got = int8.predict(image)
    assert float((got - want).norm() / want.norm()) < 0.3  # noise is not what it was calibrated on


@by_folder
def test_card_states_the_measured_scores(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    for row in metrics_of(folder)["test"]["rows"]:
        assert f"{row['miou']:.2f}" in card


def test_predict_works_out_of_the_box(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = tmp_path / "street.jpg"
    cv2.imwrite(str(photo), np.full((200, 300, 3), 128, np.uint8))
    assert main(["predict", str(photo)]) == 0
    assert "wrote" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "street_segmented.png")).shape == (200, 300, 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_camvid_student_scores_what_its_metrics_say(camvid_root: Path) -> None:
    folder = ROOT / "models" / "fast_scnn_camvid"
    want = {row["name"]: row["miou"] for row in metrics_of(folder)["test"]["rows"]}
    dataset = CamVid(camvid_root, split="test")
    runtime = OnnxRuntime(folder / "student_int8.onnx", threads=2)
    scores = evaluate(runtime.predict, eval_loader(dataset), dataset.num_classes)
    assert scores.miou == pytest.approx(want["student_int8.onnx"], abs=0.2)  # CPUs differ in their integer kernels
