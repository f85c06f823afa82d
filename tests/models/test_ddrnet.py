"""DDRNet against the published shapes and cost, plain forms of its parts, and its published training build."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from plain_forms import conv_norm, normalised, randomise
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models import Network, create
from segkd.models.base import norms_after_global_pooling
from segkd.models.blocks import NormActConv
from segkd.models.ddrnet import DAPPM, AddDown, AddProjected, DDRNet, DDRNet23, DDRNet23Slim, stage
from segkd.supervision import Supervision
from segkd.taps import tap
from segkd.workbench.composing import compose

SLIM = "DDRNet_23_slim[official,augment=False]"
FULL = "DDRNet_23[official,augment=False]"


@pytest.mark.parametrize(("cls", "name", "count"), [(DDRNet23Slim, SLIM, 5_695_987), (DDRNet23, FULL, 20_148_947)])
def test_parameters_and_cost(cls: type[Network], name: str, count: int) -> None:
    network = on_meta(lambda: cls(num_classes=19))
    assert sum(p.numel() for p in network.parameters()) == count
    assert difference(network, name) == (Counter(), Counter())
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == GOLDEN[name]["batchnorm"]["n"]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[name]["gmacs"]["512x1024"], rel=1e-3)


@pytest.mark.parametrize(("name", "count"), [("ddrnet23_slim", 5_734_342), ("ddrnet23", 20_299_366)])
def test_with_its_head_it_is_the_published_training_build(name: str, count: int) -> None:
    model = compose(name, data="cityscapes")["model"]
    network = on_meta(lambda: create(name, num_classes=19))
    with torch.device("meta"):
        supervision = Supervision(model["supervision"], network, torch.empty(1, 3, 64, 96))
    assert sum(p.numel() for part in (network, supervision) for p in part.parameters()) == count
    assert supervision.taps == {"aux": "to_detail3"}
    assert supervision.weights == {"main": 1.0, "aux": 0.4}


def norm_act_conv(x: Tensor, block: nn.Module, groups: int = 1) -> Tensor:
    """BatchNorm, ReLU, a convolution whose padding keeps the size."""
    norm, _, conv = block.children()
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(conv, nn.Conv2d)
    return F.conv2d(normalised(x, norm).clamp_min(0), conv.weight, padding=conv.weight.shape[-1] // 2, groups=groups)


def up(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def pooled(x: Tensor) -> list[Tensor]:
    """The four pooled maps; a window that reaches over the border still divides by all its cells."""
    maps = [F.avg_pool2d(F.pad(x, (k // 2,) * 4), k, s) for k, s in ((5, 2), (9, 4), (17, 8))]
    return [*maps, x.mean((2, 3), keepdim=True)]


def test_pyramid_against_its_formula() -> None:
    block = randomise(DAPPM(6, 4, 5))
    x = torch.randn(2, 6, 11, 19, dtype=torch.float64)
    parts = [norm_act_conv(x, block.point)]
    for level, smooth, small in zip(block.levels, block.smooth, pooled(x), strict=True):
        parts.append(norm_act_conv(parts[-1] + up(norm_act_conv(small, level[1]), (11, 19)), smooth))
    want = norm_act_conv(torch.cat(parts, 1), block.project) + norm_act_conv(x, block.shortcut)
    torch.testing.assert_close(block(x), want)


def test_exchanges_against_their_formulas() -> None:
    """At odd sizes; ReLU between the two convolutions down, and none at the end of either."""
    upward, downward = randomise(AddProjected(4, 6)), randomise(AddDown(4, (6, 8)))
    fine, coarse = torch.randn(1, 4, 13, 21, dtype=torch.float64), torch.randn(1, 6, 7, 11, dtype=torch.float64)
    torch.testing.assert_close(upward(fine, coarse), fine + up(conv_norm(coarse, upward.project), (13, 21)))
    low = torch.randn(1, 8, 4, 6, dtype=torch.float64)
    first, second = downward.down
    want = low + conv_norm(conv_norm(fine, first, 2).clamp_min(0), second, 2)
    torch.testing.assert_close(downward(low, fine), want)
    assert (want < 0).any()


def test_only_the_last_block_of_a_stage_is_signed() -> None:
    blocks = randomise(stage(16, 24, 3, stride=2))
    with tap(blocks, ["0", "1", "2"]) as features:
        blocks(torch.randn(1, 16, 9, 9, dtype=torch.float64))
    assert [bool((features[path] < 0).any()) for path in "012"] == [False, False, True]
    assert features["2"].shape == (1, 24, 5, 5)


@pytest.mark.parametrize("size", [(64, 96), (51, 77)])
def test_branches_against_the_plain_graph(size: tuple[int, int]) -> None:
    """Each branch gets what the other one was before the exchange, after a ReLU; what is added is not."""
    net = randomise(DDRNet(5, None, width=4, head_width=6))
    x = torch.randn(1, 3, *size, dtype=torch.float64)
    shared = net.stage2(net.stage1(net.stem(x)).relu()).relu()
    high, low = net.detail3(shared), net.context3(shared)
    high3 = high + up(conv_norm(low.relu(), net.to_detail3.project), high.shape[-2:])
    low3 = low + conv_norm(high.relu(), net.to_context3.down[0], 2)
    high, low = net.detail4(high3.relu()), net.context4(low3.relu())
    high4 = high + up(conv_norm(low.relu(), net.to_detail4.project), high.shape[-2:])
    low4 = low + net.to_context4.down(high.relu())
    deep = net.pyramid(net.context5(low4.relu()))
    fused = net.detail5(high4.relu()) + up(deep, high.shape[-2:])
    logits = norm_act_conv(norm_act_conv(fused, net.head), net.classifier)
    bias = net.classifier[2].bias.view(1, -1, 1, 1)  # type: ignore[union-attr]
    torch.testing.assert_close(net(x), up(logits + bias, size))
    with tap(net, ["to_detail3"]) as features:
        net(x)
    torch.testing.assert_close(features["to_detail3"], high3)


def test_stem_and_classifier_alone_have_biases() -> None:
    biased = [name for name, m in DDRNet23Slim(5).named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert biased == ["stem.0.0", "stem.1.0", "classifier.2"]


def test_initialised_by_fan_out() -> None:
    torch.manual_seed(0)
    network = DDRNet23Slim(5)
    for path in ("to_context4.down.1.0", "pyramid.project.2"):
        conv = network.get_submodule(path)
        assert isinstance(conv, nn.Conv2d)
        expected = math.sqrt(2 / (conv.out_channels * conv.kernel_size[0] ** 2))
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert network.stem[0][0].bias.abs().max() > 0  # type: ignore[index,union-attr]


def test_training_with_one_sample_is_refused() -> None:
    network = DDRNet23Slim(5)
    block = network.pyramid.levels[3][1]  # type: ignore[index]
    assert isinstance(block, NormActConv)
    assert list(norms_after_global_pooling(network)) == [block[0]]
    with pytest.raises(UserError, match=r"DDRNet23Slim cannot train with batch size 1"):
        network(torch.randn(1, 3, 64, 64))
