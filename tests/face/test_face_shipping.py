"""What follows a training, from Python: load, evaluate, bench, export, quantize, predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from face_kit import SCENES

import segkd
from segkd.cli.main import main
from segkd.datasets.synthetic import SyntheticStreets
from segkd.deploy.onnx import ExportReport
from segkd.deploy.report import QuantizeReport
from segkd.deploy.runtimes import OnnxRuntime
from segkd.errors import UserError
from segkd.face.run import Run
from segkd.models import Network, create
from segkd.workbench.prediction import Prediction

QUICK: dict[str, Any] = dict(speed=False, progress=False)


@pytest.fixture(scope="session")
def onnx(student: Run) -> ExportReport:
    return student.export(progress=False)


@pytest.fixture(scope="session")
def int8(student: Run, onnx: ExportReport) -> QuantizeReport:
    return student.quantize(onnx, images=2, progress=False)


def test_the_scores_are_those_of_the_command_line(
    teacher: Run, student: Run, onnx: ExportReport, int8: QuantizeReport
) -> None:
    models = {"teacher": teacher, "student": student, "onnx": onnx, "int8": int8}
    found = segkd.evaluate(models, split="test", **QUICK)
    assert list(found) == list(models)
    files = [student.weights(), onnx.path, int8.path]
    words = [str(student.folder), *map(str, files), "--split", "test", "--no-speed", "--json", "rows.json", "--teacher"]
    assert main(["eval", *words]) == 0
    rows = json.loads(Path("rows.json").read_text())["rows"]
    assert [row["miou"] for row in rows] == [found[name]["miou"] for name in models]
    assert found.miou == {row["name"]: row["miou"] for row in found.rows}
    assert found["student"]["iou"].keys() == set(SyntheticStreets.class_names)


def test_a_comparison_prints_as_a_table_and_has_speed(student: Run, onnx: ExportReport) -> None:
    found = segkd.evaluate([student, onnx.path], progress=False)
    assert list(found) == ["student", Path(onnx.path).name]
    assert found["student"]["latency_ms"] > 0
    lines = str(found).splitlines()
    assert lines[0].split()[0] == "mIoU"
    assert lines[3].startswith("student ")
    again = segkd.bench(student.student, size=(64, 96), repeats=2, progress=False)
    assert again["ContextNet"]["parameters"] == found["student"]["parameters"]


def test_any_data_set_scores_any_model(student: Run, onnx: ExportReport) -> None:
    own = SyntheticStreets(3, size=(64, 96), split="test")
    (row,) = segkd.evaluate(student.student, data=own, **QUICK).rows
    scenes = {**SCENES, "length": 3}
    assert segkd.evaluate(onnx.path, data=scenes, split="test", **QUICK).rows[0]["pixels"] == row["pixels"]
    assert student.evaluate(data=own, **QUICK)["student"]["miou"] == row["miou"]
    assert student.evaluate(split="train", **QUICK)["student"]["miou"] != row["miou"]


def test_load_opens_what_a_run_leaves(student: Run, onnx: ExportReport) -> None:
    run = segkd.load(str(student.folder))
    assert isinstance(run, Run)
    assert repr(run) == repr(student)
    network = segkd.load(student.weights())
    assert isinstance(network, Network)
    assert all(map(torch.equal, network.state_dict().values(), student.student.state_dict().values()))
    file = segkd.load(onnx.path)
    assert isinstance(file, OnnxRuntime)
    moved = Path("moved.pth")
    moved.write_bytes(student.weights().read_bytes())
    again = segkd.load(moved, network=create("contextnet", num_classes=11))
    assert isinstance(again, Network)
    assert not again.training
    with pytest.raises(UserError, match=r"moved.pth is in no run folder: say whose weights these are, network="):
        segkd.load(moved)


def test_a_network_of_its_own_is_exported_and_quantised(int8: QuantizeReport) -> None:
    report = segkd.export(create("fast_scnn", num_classes=11), size=(64, 96), out="own.onnx", progress=False)
    found = segkd.quantize(report, data=SCENES, images=2, progress=False)
    assert found.path == "own_int8.onnx"
    with pytest.raises(UserError, match=r"say which file to write the network to: out=FILE.onnx"):
        segkd.export(create("fast_scnn", num_classes=11), size=(64, 96), progress=False)
    with pytest.raises(UserError, match="say for images of which size"):
        segkd.export(create("fast_scnn", num_classes=11), out="own.onnx", progress=False)
    with pytest.raises(UserError, match="is int8 already"):
        segkd.quantize(int8, data=SCENES, progress=False)


def test_a_run_is_exported_at_the_size_of_its_crops_on_the_way_to_int8(student: Run, onnx: ExportReport) -> None:
    assert onnx.size == (64, 96)
    assert Path(onnx.path) == student.folder / "student_best_64x96.onnx"
    found = segkd.quantize(student, images=2, out="direct.onnx", progress=False)
    assert OnnxRuntime(found.path).metadata["class_names"] == list(SyntheticStreets.class_names)


def test_predictions_are_of_files_and_arrays(student: Run, int8: QuantizeReport) -> None:
    image, _ = SyntheticStreets(1, size=(64, 96))[0]
    cv2.imwrite("street.png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    one = segkd.predict("street.png", model=student)
    several = student.predict([image, Path("street.png")])
    assert isinstance(one, Prediction)
    assert all(np.array_equal(seen.label, one.label) for seen in several)
    assert one.class_names == SyntheticStreets.class_names
    network = segkd.predict(image, model=student.student)
    assert np.array_equal(network.label, one.label)
    assert segkd.predict(image[:50], model=int8).label.shape == (50, 96)
    with pytest.raises(UserError, match=r"an image is \(H, W, 3\) uint8 RGB, got \(64, 96\) uint8"):
        segkd.predict(image[..., 0], model=int8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: segkd.evaluate(run, split="dev", **QUICK), "split 'dev' is not one of train, val, test"),
        (lambda run: segkd.evaluate(3, data=SCENES, **QUICK), "a model is a run, a network, or a file"),
        (lambda run: segkd.evaluate("nothing.onnx", data=SCENES, **QUICK), "no such ONNX file: nothing.onnx"),
        (lambda run: segkd.evaluate(run.student, **QUICK), "no data set: give data="),
        (lambda run: segkd.quantize("nothing.onnx", data=SCENES, progress=False), "no such ONNX file"),
        (
            lambda run: run.quantize(route="executorch", size=(64, 96), method="minmax", progress=False),
            "method is not for the route executorch",
        ),
        (lambda run: segkd.export(3, size=(64, 64), progress=False), "what is exported is a run, weights in a run"),
        (lambda run: run.export(sise=3), "segkd.export has no argument 'sise'; did you mean 'size'"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call: Any, message: str, student: Run) -> None:
    with pytest.raises(UserError, match=message):
        call(student)
