"""Every route with networks of every kind: PReLU, transposed convolutions, pyramids, attention, light backbones.

Slow: ten files of each network. The weights are drawn, so the bounds are wide; scores are measured by `segkd eval`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segkd.deploy.onnx import export_onnx
from segkd.deploy.parity import random_images
from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.report import QuantizeReport
from segkd.deploy.runtimes import OnnxRuntime
from segkd.deploy.tensorrt import quantize_tensorrt
from segkd.models import Network, create
from segkd.models.catalogue import entry

SIZE, CLASSES = (64, 96), 5
NETWORKS = (
    "fast_scnn",
    "espnet",  # PReLU
    "linknet",  # transposed convolutions
    "swiftnet_rn18_pyramid",
    "segformer_b0",
    "light_fpn_efficientnet_b0",
    "light_fpn_efficientformerv2_s0",
)
MIN_SQNR, MIN_SAME = 8.0, 0.75
pytestmark = pytest.mark.slow


def drawn(name: str) -> Network:
    """A network with drawn weights, whose BatchNorms have seen images."""
    torch.manual_seed(0)
    found = entry(name)
    network: Network = create(found.name, num_classes=CLASSES, **found.options)
    with torch.no_grad():
        for seed in range(4):
            network.train()(network.preprocess(random_images(4, SIZE, seed=seed)))
    return network.eval()


@pytest.fixture(scope="module", params=NETWORKS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path]:
    """A network and its float file, which export refuses unless it computes the same."""
    network = drawn(request.param)
    path = tmp_path_factory.mktemp("networks") / "float.onnx"
    report = export_onnx(network, path, SIZE)
    assert len(report.parity) == 2
    return network, path


def holds(report: QuantizeReport) -> None:
    """The file computes in int8, and nearly what the float one does."""
    assert report.int8_ops > report.float_ops
    assert report.sqnr_db is not None
    assert report.sqnr_db > MIN_SQNR
    assert report.argmax_agreement > MIN_SAME


def test_onnxruntime_and_tensorrt(made: tuple[Network, Path], tmp_path: Path) -> None:
    network, path = made
    images = [random_images(4, SIZE, seed=9)]
    holds(quantize_onnx(path, tmp_path / "int8.onnx", images, op_types="all"))
    holds(quantize_tensorrt(path, tmp_path / "tensorrt.onnx", images))
    image = random_images(2, SIZE, seed=10)
    with torch.no_grad():
        expected = network.predict(image)
    torch.testing.assert_close(OnnxRuntime(path).predict(image), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.alone
def test_openvino_route(made: tuple[Network, Path], tmp_path: Path) -> None:
    from segkd.deploy.openvino import OpenVinoRuntime
    from segkd.deploy.quantize_openvino import quantize_openvino

    network, path = made
    holds(quantize_openvino(path, tmp_path / "int8.xml", [random_images(4, SIZE, seed=9)]))
    image = random_images(2, SIZE, seed=10)
    with torch.no_grad():
        expected = network.predict(image)
    torch.testing.assert_close(OpenVinoRuntime(path).predict(image), expected, rtol=1e-3, atol=1e-3)
