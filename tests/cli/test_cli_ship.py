"""``segkd export --output labels``, ``segkd quantize --route``, and files run otherwise, ``FILE@HOW``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_kit import Refused, Run

from segkd.deploy.runtimes import OnnxRuntime
from segkd.workbench.tails import best_tail, compare_tails


def test_labels_by_the_best_tail(segkd: Run, trained: Path, tmp_path: Path) -> None:
    weights, out = trained / "student_last.pth", tmp_path / "labels.onnx"
    words = ["export", trained, "--weights", weights, "--size", "64x96", "--output", "labels", "--out", out]
    result = segkd(*words, "--images", 2, "--json", tmp_path / "export.json")
    assert result.code == 0, result.err
    content = json.loads((tmp_path / "export.json").read_text())
    assert [row["tail"] for row in content["tails"]] == ["full", "half", "quarter", "native"]
    assert content["tail"] == best_tail(content["tails"])
    assert f"labels, tail {content['tail']}" in result.out
    runtime = OnnxRuntime(out)
    assert (runtime.output, runtime.metadata["tail"]) == ("labels", content["tail"])
    assert runtime.labels(torch.zeros(2, 3, 64, 96, dtype=torch.uint8)).shape == (2, 64, 96)
    native = segkd(*words[:-1], tmp_path / "native.onnx", "--tail", "native")
    assert native.code == 0
    assert OnnxRuntime(tmp_path / "native.onnx").metadata["tail"] == "native"


def test_the_best_is_the_fastest_near_full() -> None:
    rows = [
        {"tail": "full", "miou": 60.0, "latency_ms": 9.0},
        {"tail": "half", "miou": 59.95, "latency_ms": 5.0},
        {"tail": "quarter", "miou": 59.89, "latency_ms": 3.0},
    ]
    assert best_tail(rows) == "half"
    assert best_tail(rows, max_drop=0.2) == "quarter"
    assert best_tail([{"tail": "full", "latency_ms": 9.0}]) == "full"


def test_scores_of_tails_are_those_of_their_files(exported: Path) -> None:
    from segkd.datasets import DATASETS
    from segkd.deploy.tail import make_labels
    from segkd.evaluation.scores import ConfusionMatrix

    dataset = DATASETS.build({"type": "synthetic", "split": "val", "size": (64, 96), "length": 3})
    rows = {row["tail"]: row for row in compare_tails(exported, dataset, repeats=2)}
    for tail in ("full", "quarter"):
        make_labels(exported, exported.with_name(f"{tail}.onnx"), tail)
        runtime, matrix = OnnxRuntime(exported.with_name(f"{tail}.onnx")), ConfusionMatrix(dataset.num_classes)
        for index in range(3):
            image = torch.from_numpy(dataset[index].image).permute(2, 0, 1)[None]
            matrix.update(runtime.labels(image).long(), torch.from_numpy(dataset[index].label)[None].long())
        assert rows[tail]["miou"] == pytest.approx(matrix.result().miou, abs=0.01)


@pytest.mark.parametrize(
    ("route", "ending"), [pytest.param("openvino", ".xml", marks=pytest.mark.alone), ("tensorrt", ".onnx")]
)
def test_routes(segkd: Run, trained: Path, exported: Path, tmp_path: Path, route: str, ending: str) -> None:
    if route == "openvino":
        pytest.importorskip("nncf")
    out = tmp_path / f"int8{ending}"
    result = segkd(
        "quantize", trained, exported, "--route", route, "--images", 2, "--out", out, "--json", tmp_path / "q"
    )
    assert result.code == 0, result.err
    content = json.loads((tmp_path / "q").read_text())
    assert (content["route"], content["images"], content["path"]) == (route, 2, str(out))
    assert content["int8_ops"] > 0
    timed = segkd("bench", trained, exported, out, "--size", "64x96", "--repeats", 2)
    assert timed.code == 0, timed.err
    assert out.name in timed.out


@pytest.mark.alone
def test_files_run_otherwise(segkd: Run, refused: Refused, trained: Path, exported: Path) -> None:
    pytest.importorskip("openvino")
    weights = trained / "student_last.pth"
    ways = [f"{weights}@channels_last", f"{weights}@bf16", f"{exported}@openvino"]
    result = segkd("bench", trained, *ways, "--size", "64x96", "--repeats", 2)
    assert result.code == 0, result.err
    assert "student_last.pth@bf16" in result.out
    assert "not run as 'opnvino'; did you mean 'openvino'" in refused("bench", trained, f"{exported}@opnvino")
    assert "does not run as 'bf61'; did you mean 'bf16'?" in refused("bench", trained, f"{weights}@bf61")
    if not torch.cuda.is_available():
        assert "has no CUDA here" in refused("bench", trained, f"{exported}@cuda")


def test_mistakes(refused: Refused, trained: Path, exported: Path, tmp_path: Path) -> None:
    weights = trained / "student_last.pth"
    export = ("export", trained, "--weights", weights)
    assert "are for --output labels" in refused(*export, "--size", "64x96", "--tail", "half")
    assert "a file for one size" in refused(*export, "--any-size", "--output", "labels")
    assert "opset must be 18 to 23" in refused(*export, "--size", "64x96", "--opset", 13)
    quantize = ("quantize", trained, exported)
    assert "op_types is not for this route" in refused(*quantize, "--route", "openvino", "--ops", "conv")
    assert "did you mean 'openvino'" in refused(*quantize, "--route", "openvin")
    assert "is an .xml file" in refused(*quantize, "--route", "openvino", "--out", tmp_path / "x.onnx")
    assert "no node 'x'" in refused(*quantize, "--keep-float", "x", "--images", 1, "--out", tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_files_may_come_after_options(segkd: Run, trained: Path, exported: Path) -> None:
    result = segkd("bench", trained, "--size", "64x96", "--repeats", 2, exported, "--threads", 1)
    assert result.code == 0, result.err
    assert exported.name in result.out


def test_layers_that_stay_float(segkd: Run, trained: Path, exported: Path, tmp_path: Path) -> None:
    words = ("quantize", trained, exported, "--images", 2, "--out", tmp_path / "int8.onnx")
    words = (*words, "--json", tmp_path / "q.json")
    result = segkd(*words, "--keep-float", 3, "--sensitivity")
    assert result.code == 0, result.err
    content = json.loads((tmp_path / "q.json").read_text())
    assert content["kept"] == [layer["node"] for layer in content["layers"][:3]]
    assert (tmp_path / "int8_layers.png").is_file()
    assert content["layers"][0]["layer"] in result.out
    auto = segkd(*words, "--keep-float", "auto", "--max-drop", 100)
    assert auto.code == 0, auto.err
    assert "0 layers in float: val mIoU" in auto.out
