"""Quantization-aware distillation wins back what int8 loses, its file is what was trained, and its runs go on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from test_training import Watch
from torch import Tensor
from wild_net import SIZE, Tints, batch, config, wild, write_weights

from segkd.deploy.tail import make_labels
from segkd.deploy.values import rounded_in
from segkd.errors import UserError
from segkd.fakequant import FAKE_QUANT
from segkd.models import Network
from segkd.training.build import build_dataset
from segkd.training.config import Config
from segkd.training.loop import train
from segkd.workbench.candidates import WAYS, as_trained
from segkd.workbench.deployment import export_run, quantize_file
from segkd.workbench.runs import load_student

ROUTES = ("onnxruntime", "tensorrt")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def runs(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run for each route."""
    folder = tmp_path_factory.mktemp("runs")
    for route, steps in zip(ROUTES, (100, 4), strict=True):
        train(config(weights, dict(route=route, images=8), steps=steps, val_interval=steps), folder / route)
    return {route: folder / route for route in ROUTES}


def int8_file(cfg: dict[str, Any], file: Path, folder: Path, route: str) -> Path:
    floats = export_run(cfg, file, SIZE, folder / f"{route}.onnx", batch=None).path
    report = quantize_file(floats, build_dataset(cfg, "train"), folder / f"{route}_int8.onnx", route=route, images=8)
    return Path(report.path)


def answer(file: Path, image: Tensor) -> Tensor:
    """What an int8 file gives, as it stands there: ONNX Runtime makes nothing of its own of it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


def predict(network: Network, image: Tensor) -> Tensor:
    with torch.no_grad():
        return network.predict(image)


@pytest.fixture(scope="module")
def files(weights: Path, runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The int8 file of each run."""
    folder = tmp_path_factory.mktemp("files")
    made = {}
    for route in ROUTES:
        cfg = config(weights, dict(route=route, images=8))
        made[route] = int8_file(cfg, runs[route] / "student_last.pth", folder, route)
    return made


def test_it_wins_back_more_than_half_of_what_int8_loses(weights: Path, files: dict[str, Path], tmp_path: Path) -> None:
    image, label = batch(Tints(32, "test"), range(32))

    def right(logits: Tensor) -> float:
        return 100 * float((logits.argmax(1) == label).double().mean())

    plain = config(weights, None)
    exact = right(predict(load_student(plain, weights / "wild.pth"), image))
    before = right(answer(int8_file(plain, weights / "wild.pth", tmp_path, "onnxruntime"), image))
    after = right(answer(files["onnxruntime"], image))
    assert exact - before > 2, (exact, before)
    assert exact - after < (exact - before) / 2, (exact, before, after)


@pytest.mark.parametrize("route", ROUTES)
def test_the_int8_file_computes_what_was_trained(
    route: str, weights: Path, runs: dict[str, Path], files: dict[str, Path]
) -> None:
    image, _ = batch(Tints(8, "test"), range(8))
    student = load_student(config(weights, dict(route=route)), runs[route] / "student_last.pth")
    own, expected = predict(student, image), answer(files[route], image)
    largest = float(expected.abs().max())
    differing = (own - expected).abs() > 1e-4 * largest
    assert float(differing.double().mean()) < 0.02  # float sums in another order, at the border of two integers
    assert float((own - expected).abs().max()) < 0.05 * largest
    assert float((own.argmax(1) == expected.argmax(1)).double().mean()) > 0.999
    rounded = rounded_in(onnx.load(str(files[route])))
    places = student._modules[FAKE_QUANT]
    assert set(rounded.values.values()) == set(places.values.values())  # type: ignore[union-attr,operator]
    assert len(rounded.weights) == len(places.weights) == 4  # type: ignore[arg-type,union-attr]
    zero_points = {value.zero_point for value in rounded.values.values()}
    assert zero_points == {0} if route == "tensorrt" else len(zero_points) > 1


def test_a_resumed_run_equals_an_uninterrupted_one(weights: Path, tmp_path: Path) -> None:
    cfg = config(weights, dict(route="tensorrt", images=4)) | {}
    cfg["engine"] = cfg["engine"] | dict(ema=0.9)
    train(cfg, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(cfg, tmp_path / "run", hooks=[Watch(crash_at=3)])
    train(cfg, tmp_path / "run", resume=True)
    for name in ("student_last.pth", "student_best.pth", "student_ema.pth"):
        a, b = (torch.load(tmp_path / run / name, weights_only=True) for run in ("whole", "run"))
        assert a.keys() == b.keys()
        assert any(key.startswith(FAKE_QUANT) for key in a)
        assert all(torch.equal(a[key], b[key]) for key in a)
    states = [torch.load(tmp_path / run / "state.pth", weights_only=True) for run in ("whole", "run")]
    assert all(torch.equal(value, states[1]["model"][key]) for key, value in states[0]["model"].items())
    start = torch.load(weights / "wild.pth", weights_only=True)
    means = [key for key in start if key.endswith(("running_mean", "running_var"))]
    assert means
    assert all(torch.equal(a[key], start[key]) for key in means)  # statistics stay those of the float student
    assert not torch.equal(a["stem.1.weight"], start["stem.1.weight"])

    later = config(weights, dict(route="tensorrt", start=str(tmp_path / "whole"), images=4), steps=1, val_interval=1)
    del later["model"]["student"]["weights"]
    train(later, tmp_path / "later")  # begins with the student as it was last, and finds its ranges anew
    assert (tmp_path / "later" / "student_last.pth").is_file()


def refused(cfg: dict[str, Any], run: Path) -> str:
    with pytest.raises(UserError) as caught:
        train(cfg, run)
    assert not run.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_is_refused_in_a_line(weights: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    for quantize, said in (
        (dict(route="onnxruntim"), "did you mean 'onnxruntime'"),
        (dict(route="openvino"), "FILE.onnx@openvino"),
        (dict(rout="tensorrt"), "did you mean 'route'"),
        (dict(), "quantize.route"),
        (dict(route="tensorrt", weight_bits=4), "quantize.weight_bits"),
        (dict(route="tensorrt", ops="convs"), "quantize.ops"),
        (dict(route="tensorrt", start=str(tmp_path / "none")), "give one of them"),
    ):
        assert re.search(re.escape(said), refused(config(weights, quantize), tmp_path / "run")), quantize
    cfg = config(weights, dict(route="tensorrt"))
    assert "engine.precision=fp32" in refused(cfg | {"engine": dict(precision="bf16")}, tmp_path / "run")
    assert "engine.compile" in refused(cfg | {"engine": dict(compile=True)}, tmp_path / "run")
    bare = config(weights, dict(route="tensorrt"))
    del bare["model"]["student"]["weights"]
    assert "quantize.start=RUN" in refused(bare, tmp_path / "run")
    rounding = config(weights, None)
    rounding["model"]["student"]["weights"] = str(runs["tensorrt"] / "student_last.pth")
    assert "add quantize.route" in refused(rounding, tmp_path / "run")
    assert Config.of(cfg | {"engine": dict(precision="auto")}).quantize is not None


def test_a_file_is_quantised_only_as_it_was_trained(weights: Path, files: dict[str, Path], tmp_path: Path) -> None:
    cfg = config(weights, dict(route="onnxruntime", images=8))
    floats = files["onnxruntime"].with_name("onnxruntime.onnx")
    data = build_dataset(cfg, "train")
    for choices, said in (
        (dict(route="tensorrt"), "trained for --route onnxruntime"),
        (dict(route="openvino"), "FILE@openvino"),
        (dict(weight_bits=8), "leave out weight_bits"),
        (dict(op_types="conv"), "leave out op_types"),
        (dict(method="minmax"), "leave out method"),
        (dict(improve=["bias"]), "leave out improve"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            quantize_file(floats, data, tmp_path / ("x.xml" if "openvino" in str(choices) else "x.onnx"), **choices)
    assert not list(tmp_path.glob("x.*"))
    assert set(WAYS) - set(as_trained(floats, tuple(WAYS))) == {"onnxruntime int8 conv", "openvino int8"}
    make_labels(floats, tmp_path / "labels.onnx", "full")  # what is rounded keeps its name under another tail
    report = quantize_file(tmp_path / "labels.onnx", data)
    image, _ = batch(Tints(8, "test"), range(8))
    same = answer(Path(report.path), image) == answer(files["onnxruntime"], image).argmax(1)
    assert float(same.double().mean()) > 0.98  # but for its logits at full size, which it does not round


def test_wild_channels_compute_the_same(weights: Path) -> None:
    from wild_net import trained_net

    net = trained_net(2)
    image, _ = batch(Tints(2), range(2))
    torch.testing.assert_close(predict(wild(net), image), predict(net, image), rtol=1e-3, atol=1e-3)
