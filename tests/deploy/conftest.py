"""The network and its exported files, made once for all tests here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pyramid_net import CLASSES, SIZE, PyramidNet, colour_rule
from torch.nn import functional as F

from segkd.deploy.onnx import ExportReport, export_onnx
from segkd.deploy.parity import random_images


@pytest.fixture(scope="session")
def net() -> PyramidNet:
    torch.manual_seed(0)
    network = PyramidNet()
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for step in range(60):
        image = random_images(4, (48, 64), seed=step)
        loss = F.cross_entropy(network.predict(image), colour_rule(image))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.train()  # as a training loop would hand it over


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deploy")


@pytest.fixture(scope="session")
def report(net: PyramidNet, folder: Path) -> ExportReport:
    return export_onnx(net, folder / "net.onnx", SIZE, class_names=CLASSES, extra={"palette": [[9, 8, 7]]})


@pytest.fixture(scope="session")
def wide(net: PyramidNet, folder: Path) -> Path:
    """Another aspect ratio, preprocessing left outside."""
    export_onnx(net, folder / "wide.onnx", (64, 96), include_preprocess=False, check_batches=(1,))
    return folder / "wide.onnx"


@pytest.fixture(scope="session")
def exported(report: ExportReport) -> Path:
    return Path(report.path)
