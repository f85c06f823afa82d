"""Branches merged into one convolution: the same logits from fewer layers, and the network itself left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.models.byobnet import MobileOneBlock
from torch import Tensor, nn

from segkd.deploy.fusing import fuse
from segkd.deploy.onnx import export_onnx
from segkd.models import create
from segkd.models.base import Network


class Branched(Network):
    """One layer of MobileOne: a 3x3 and a 1x1 convolution and a normalised identity beside each other."""

    def __init__(self) -> None:
        super().__init__(3)
        self.layer = MobileOneBlock(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def convolutions(network: nn.Module) -> int:
    return sum(isinstance(module, nn.Conv2d) for module in network.modules())


@pytest.mark.parametrize("backbone", ["mobileone_s0", "repvit_m0_9", "repghostnet_050"])
def test_merged_network_computes_the_same(backbone: str) -> None:
    torch.manual_seed(0)
    network = create("light_fpn", num_classes=4, backbone=backbone).eval()
    before = convolutions(network)
    merged, layers = fuse(network)
    assert layers > 0
    assert convolutions(network) == before
    assert convolutions(merged) <= before
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected, got = network(x), merged(x)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_a_layer_that_is_called_fuse_is_none() -> None:
    network = nn.Module()
    network.fuse = nn.Conv2d(3, 3, 1)
    assert fuse(network) == (network, 0)


def test_files_hold_fewer_convolutions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Branched()
    merged = export_onnx(network, tmp_path / "merged.onnx", (32, 40), check_batches=(1,))
    branched = export_onnx(network, tmp_path / "branched.onnx", (32, 40), check_batches=(1,), merge=False)
    assert (merged.fused, branched.fused) == (1, 0)
    assert (merged.ops["Conv"], branched.ops["Conv"]) == (1, 2)
