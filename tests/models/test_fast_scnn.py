"""Fast-SCNN against the golden shapes, the published cost, and plain forms of its parts."""

from __future__ import annotations

from collections import Counter

import published
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.base import norms_after_global_pooling
from segkd.models.blocks import InvertedResidual
from segkd.models.fast_scnn import FastSCNN
from segkd.models.fusion import FeatureFusion, PyramidPooling

GOLDEN = "FastSCNN[Tramac,aux=False]"


def test_parameters_at_19_classes() -> None:
    network = FastSCNN(num_classes=19)
    assert sum(p.numel() for p in network.parameters()) == 1_138_051
    assert len(list(network.parameters())) == 136
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 45
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 44


def test_shapes_equal_golden() -> None:
    network = published.on_meta(lambda: FastSCNN(num_classes=19))
    assert published.difference(network, GOLDEN) == (Counter(), Counter())


def test_cost_is_the_published_one() -> None:
    """1.677 GMAC at 512x1024 [golden]; the port's stem pads by 0 and so is a little cheaper."""
    network = published.on_meta(lambda: FastSCNN(num_classes=19))
    assert published.gmacs(network, 512, 1024) == pytest.approx(published.GOLDEN[GOLDEN]["gmacs"]["512x1024"], rel=0.01)


def test_pyramid_pooling_against_its_definition() -> None:
    """At a map of 12x18 every bin divides it: plain means over cells, in float64."""
    torch.manual_seed(0)
    block = PyramidPooling(8, 4).double().eval()
    x = torch.randn(2, 8, 12, 18, dtype=torch.float64)
    parts = [x]
    for bins, level in zip((1, 2, 3, 6), block.levels, strict=True):
        means = x.reshape(2, 8, bins, 12 // bins, bins, 18 // bins).mean(dim=(3, 5))
        conv, norm, _ = level[1]  # type: ignore[index]
        value = torch.einsum("oi,nihw->nohw", conv.weight[:, :, 0, 0], means) / (1 + norm.eps) ** 0.5
        parts.append(F.interpolate(value.clamp_min(0), size=(12, 18), mode="bilinear", align_corners=False))
    conv, norm, _ = block.project
    want = torch.einsum("oi,nihw->nohw", conv.weight[:, :, 0, 0], torch.cat(parts, 1)) / (1 + norm.eps) ** 0.5
    torch.testing.assert_close(block(x), want.clamp_min(0))


@pytest.mark.parametrize(("cout", "stride", "adds"), [(8, 1, True), (8, 2, False), (12, 1, False)])
def test_inverted_residual_adds_identity_where_it_fits(cout: int, stride: int, adds: bool) -> None:
    block = InvertedResidual(8, cout, stride, expand=6).eval()
    x = torch.randn(1, 8, 6, 6)
    body: Tensor = block.body(x)
    assert (body < 0).any(), "the bottleneck is linear"
    torch.testing.assert_close(block(x), body + x if adds else body)


def test_fusion_against_its_formula() -> None:
    """relu(bn(1x1(relu(bn(dw3x3 of dilation 4 (coarse resized)))) + bn(1x1(detail))), in float64, at odd sizes."""
    torch.manual_seed(0)
    fusion = FeatureFusion(detail=4, coarse=6, cout=6).double().eval()
    detail, coarse = torch.randn(1, 4, 17, 22, dtype=torch.float64), torch.randn(1, 6, 5, 6, dtype=torch.float64)

    def norm(x: Tensor) -> Tensor:
        return x / (1 + 1e-5) ** 0.5

    def pointwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
        return torch.einsum("oi,nihw->nohw", conv.weight[:, :, 0, 0], x) + conv.bias.view(1, -1, 1, 1)  # type: ignore[union-attr]

    up = F.interpolate(coarse, size=(17, 22), mode="bilinear", align_corners=False)
    spread = norm(F.conv2d(up, fusion.spread[0].weight, padding=4, dilation=4, groups=6)).clamp_min(0)  # type: ignore[arg-type]
    total = norm(pointwise(spread, fusion.coarse[0])) + norm(pointwise(detail, fusion.detail[0]))  # type: ignore[arg-type]
    torch.testing.assert_close(fusion(detail, coarse), total.clamp_min(0))


def test_training_with_one_sample_is_refused() -> None:
    network = FastSCNN(num_classes=5)
    x = torch.randn(1, 3, 64, 64)
    with pytest.raises(UserError, match=r"FastSCNN cannot train with batch size 1: .*batch_size >= 2"):
        network(x)
    for norm in norms_after_global_pooling(network):
        norm.eval()
    assert network(x).shape == (1, 5, 64, 64)
    assert FastSCNN(num_classes=5).eval()(x).shape == (1, 5, 64, 64)


def test_exactly_the_norms_that_fail_are_found() -> None:
    """The ones found are the ones at which torch refuses a batch of one."""
    network = FastSCNN(num_classes=5)
    found = list(norms_after_global_pooling(network))
    assert found == [network.global_features.pooling.levels[0][1][1]]  # type: ignore[index]


def test_dropout_only_in_training() -> None:
    network = FastSCNN(num_classes=5, dropout=0.5)
    assert network.dropout.p == 0.5
    network.eval()
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(network(x), network(x))


def test_same_seed_same_start() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(FastSCNN(num_classes=5).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
