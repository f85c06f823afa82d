from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from pyramid_net import CLASSES, SIZE, PyramidNet, colour_rule

from segkd.deploy.formats import load_runtime
from segkd.deploy.parity import random_images
from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.report import QuantizeError
from segkd.deploy.runtimes import OnnxRuntime
from segkd.errors import UserError
from segkd.evaluation.inference import evaluate


@pytest.fixture(scope="module")
def calibration() -> list[torch.Tensor]:
    return [random_images(4, SIZE, seed=100 + i) for i in range(2)]


@pytest.mark.parametrize("op_types", ["conv", "all", ["Conv"]])
@pytest.mark.parametrize("method", ["percentile", "minmax", "moving_average", "entropy"])
def test_int8_stays_close(
    exported: Path, tmp_path: Path, calibration: list[torch.Tensor], op_types: str | list[str], method: str
) -> None:
    target = tmp_path / "int8.onnx"
    report = quantize_onnx(exported, target, calibration, op_types=op_types, method=method)
    image = torch.cat(calibration)
    expected, got = load_runtime(exported).predict(image), load_runtime(target).predict(image)
    assert got.shape == expected.shape
    assert not torch.equal(got, expected)
    agreement = float((got.argmax(1) == expected.argmax(1)).double().mean())
    noise = (got - expected).square().sum() / expected.square().sum()
    floor = 0.9 if method == "entropy" else 0.97
    assert agreement > floor
    assert report.argmax_agreement == pytest.approx(agreement, abs=1e-4)
    assert report.sqnr_db == pytest.approx(-10 * float(noise.log10()), abs=0.01)
    assert report.int8_ops >= 3
    assert report.ops["QLinearConv"] == 3
    assert report.float_ops == 8  # the pooling matrices


def test_same_scores_machinery_and_metadata(exported: Path, tmp_path: Path, calibration: list[torch.Tensor]) -> None:
    report = quantize_onnx(exported, tmp_path / "int8.onnx", calibration)
    assert report.images == 8
    assert report.float_bytes == exported.stat().st_size
    assert report.int8_bytes == (tmp_path / "int8.onnx").stat().st_size
    runtime = OnnxRuntime(tmp_path / "int8.onnx")
    about = dict(runtime.metadata)
    assert about.pop("quantization")["images"] == 8
    assert about == OnnxRuntime(exported).metadata
    assert runtime.metadata["class_names"] == list(CLASSES)
    image = random_images(4, SIZE, seed=5)
    batch = {"image": image, "label": colour_rule(image)}
    loss = evaluate(load_runtime(exported).predict, [batch], 3).miou - evaluate(runtime.predict, [batch], 3).miou
    assert abs(loss) < 1


def test_format_is_qdq_u8_activations_s8_weights_per_channel(
    exported: Path, tmp_path: Path, calibration: list[torch.Tensor]
) -> None:
    quantize_onnx(exported, tmp_path / "int8.onnx", calibration)
    graph = onnx.load(str(tmp_path / "int8.onnx")).graph
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 3
    for node in convolutions:
        weight, activation = made[node.input[1]], made[node.input[0]]
        assert weight.op_type == activation.op_type == "DequantizeLinear"
        kernel = constants[weight.input[0]]
        assert kernel.dtype == np.int8
        assert constants[weight.input[1]].shape == (kernel.shape[0],)  # a scale per output channel
        assert constants[activation.input[2]].dtype == np.uint8
    assert made[next(n for n in graph.node if n.op_type == "Sub").input[0]].op_type == "Mul"  # preprocessing in float


def test_reduced_range_and_per_tensor_weights(exported: Path, tmp_path: Path, calibration: list[torch.Tensor]) -> None:
    quantize_onnx(exported, tmp_path / "q.onnx", calibration, reduce_range=True, per_channel=False)
    graph = onnx.load(str(tmp_path / "q.onnx")).graph
    arrays = [onnx.numpy_helper.to_array(i) for i in graph.initializer if len(i.dims) == 4]
    kernels = [a for a in arrays if a.dtype == np.int8]
    assert len(kernels) == 3
    assert max(int(np.abs(k).max()) for k in kernels) <= 64
    scales = [onnx.numpy_helper.to_array(i) for i in graph.initializer if i.name.endswith("weight_scale")]
    assert [scale.size for scale in scales] == [1, 1, 1]


def test_percentile_cuts_what_minmax_keeps(net: PyramidNet, exported: Path, tmp_path: Path) -> None:
    """One white-hot pixel in a dark set: the range of the first activation follows it by minmax only."""
    dark = [random_images(4, SIZE, seed=i) // 8 for i in range(2)]
    dark[0][0, :, 40, 40] = 255

    def scale(method: str, percentile: float = 99.9) -> float:
        quantize_onnx(exported, tmp_path / "q.onnx", dark, method=method, percentile=percentile)
        graph = onnx.load(str(tmp_path / "q.onnx")).graph
        made = {output: node for node in graph.node for output in node.output}
        first = made[next(n for n in graph.node if n.op_type == "Conv").input[0]]
        return float(next(onnx.numpy_helper.to_array(i) for i in graph.initializer if i.name == first.input[1]))

    low, high = (float(f(net.preprocess(torch.cat(dark)))) for f in (torch.amin, torch.amax))
    assert scale("minmax") == pytest.approx((max(high, 0) - min(low, 0)) / 255, rel=1e-3)
    assert scale("percentile") < 0.6 * scale("minmax")
    assert scale("percentile", 100) == pytest.approx(scale("minmax"), rel=0.01)


def test_preprocess_outside_and_numpy(wide: Path, tmp_path: Path) -> None:
    report = quantize_onnx(wide, tmp_path / "q.onnx", [random_images(4, (64, 96)).numpy()])
    assert report.argmax_agreement > 0.97


def test_takes_the_first_images_only(exported: Path, tmp_path: Path) -> None:
    drawn: list[int] = []

    def endless():
        while True:
            drawn.append(1)
            yield random_images(2, SIZE, seed=len(drawn))

    report = quantize_onnx(exported, tmp_path / "q.onnx", endless(), max_images=3, method="minmax")
    assert report.images == 3
    assert len(drawn) == 2


def test_user_mistakes_leave_nothing(exported: Path, tmp_path: Path) -> None:
    target = tmp_path / "q.onnx"
    good = [random_images(1, SIZE)]
    for arguments, options, message in (
        ((exported, target, []), {}, "needs calibration images"),
        ((exported, target, [random_images(1, (64, 96))]), {}, r"\(3, 90, 120\).*\(3, 64, 96\)"),
        ((exported, target, [good[0].float()]), {}, "got torch.float32"),
        ((tmp_path / "absent.onnx", target, good), {}, "not found"),
        ((exported, target, good), {"method": "percentil"}, "did you mean 'percentile'"),
        ((exported, target, good), {"percentile": 0.999}, "percentile must lie in"),
        ((exported, target, good), {"op_types": "convs"}, "'conv', 'all' or a list"),
    ):
        with pytest.raises(UserError, match=message):
            quantize_onnx(*arguments, **options)
    assert list(tmp_path.iterdir()) == []


def test_failure_inside_the_quantiser_leaves_nothing(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_written(source: str, target: str, *args: object, **kwargs: object) -> None:
        Path(target).write_bytes(b"half")
        raise ValueError("boom")

    monkeypatch.setattr("segkd.deploy.quantize.quantize_static", half_written)
    with pytest.raises(QuantizeError, match="boom"):
        quantize_onnx(exported, tmp_path / "q.onnx", [random_images(1, SIZE)])
    assert list(tmp_path.iterdir()) == []
