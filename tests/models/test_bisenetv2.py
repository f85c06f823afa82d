"""BiSeNet V2 against the published shapes and cost, plain forms of its parts, and its published training build."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from plain_forms import conv_norm, conv_norm_relu, mean, nearest, normalised, pointwise, randomise, segmentor
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.base import norms_after_global_pooling
from segkd.models.bisenetv2 import BiSeNetV2, BoosterHead, ContextEmbedding, GatherExpand, GuidedAggregation, Stem
from segkd.training.config import Config
from segkd.training.optim import build_minimizers
from segkd.workbench.composing import compose

NAME = "BiSeNetV2[CoinCheung,aux_mode=eval]"


def test_parameters_and_cost() -> None:
    network = on_meta(lambda: BiSeNetV2(num_classes=19))
    assert sum(p.numel() for p in network.parameters()) == 3_358_627
    assert difference(network, NAME) == (Counter(), Counter())
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == GOLDEN[NAME]["batchnorm"]["n"]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[NAME]["gmacs"]["512x1024"], rel=1e-4)


def test_with_its_heads_it_is_the_published_training_build() -> None:
    model = segmentor("bisenetv2", "cityscapes")
    assert sum(p.numel() for p in model.parameters()) == 5_231_487
    assert set(model.supervision.weights.values()) == {1.0}


def test_heads_learn_faster_and_neither_norms_nor_biases_decay() -> None:
    model = segmentor("bisenetv2", "camvid")
    groups = build_minimizers(Config.of(compose("bisenetv2", data="camvid")), model)["student"].optimizer.param_groups
    options = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        head = name.startswith(("student.head", "student.classifier", "supervision"))
        decay = 5e-4 if parameter.dim() > 1 else 0.0
        assert options[id(parameter)] == pytest.approx((0.05 if head else 0.005, decay)), name


def expanded(x: Tensor, block: GatherExpand, stride: int) -> Tensor:
    """The body up to the linear 1x1: with stride 2 a second depthwise convolution, and ReLU after that alone."""
    y = conv_norm_relu(x, block.body[0])
    channels = y.shape[1]
    conv, norm = list(block.body[1].children())[:2]
    y = normalised(F.conv2d(y, conv.weight, stride=stride, padding=1, groups=channels), norm)  # type: ignore[arg-type]
    if stride == 2:
        y = conv_norm(y, block.body[2], depthwise=True)
    assert y.shape[1] == 6 * channels
    return conv_norm(y.clamp_min(0), block.project)


@pytest.mark.parametrize(("cout", "stride"), [(4, 1), (7, 2)])
def test_gather_and_expansion_against_its_formula(cout: int, stride: int) -> None:
    block = randomise(GatherExpand(4, cout, stride))
    x = torch.randn(2, 4, 13, 18, dtype=torch.float64)
    shortcut = x
    if stride == 2:
        first, second = block.shortcut.children()
        shortcut = conv_norm(conv_norm(x, first, 2, depthwise=True), second)
    want = (expanded(x, block, stride) + shortcut).clamp_min(0)
    assert want.shape == (2, cout, -(-13 // stride), 18 // stride)
    torch.testing.assert_close(block(x), want)


def test_stem_against_its_formula() -> None:
    stem = randomise(Stem())
    x = torch.randn(1, 3, 37, 50, dtype=torch.float64)
    half = conv_norm_relu(x, stem.conv, 2)
    down = conv_norm_relu(conv_norm_relu(half, stem.down[0]), stem.down[1], 2)
    want = conv_norm_relu(torch.cat([down, F.max_pool2d(half, 3, 2, 1)], 1), stem.fuse)
    assert want.shape == (1, 16, 10, 13)
    torch.testing.assert_close(stem(x), want)


def test_context_embedding_against_its_formula() -> None:
    block = randomise(ContextEmbedding(6))
    x = torch.randn(2, 6, 5, 9, dtype=torch.float64)
    context = conv_norm_relu(normalised(mean(x), block.pool[1]), block.pool[2])
    torch.testing.assert_close(block(x), conv_norm_relu(x + context, block.conv))


def test_guided_aggregation_against_its_formula() -> None:
    """At odd sizes, where the map of stride 32 is not a quarter of that of stride 8."""
    block = randomise(GuidedAggregation(6))
    detail, semantics = torch.randn(2, 6, 17, 23, dtype=torch.float64), torch.randn(2, 6, 5, 6, dtype=torch.float64)
    fine = pointwise(conv_norm(detail, block.detail[0], depthwise=True), block.detail[1])
    fine = fine * torch.sigmoid(nearest(conv_norm(semantics, block.semantics_up), (17, 23)))
    down = F.avg_pool2d(F.pad(conv_norm(detail, block.detail_down[0], 2), (1, 1, 1, 1)), 3, 2)  # counts the padding
    gate = pointwise(conv_norm(semantics, block.semantics[0], depthwise=True), block.semantics[1]).sigmoid()
    want = conv_norm_relu(fine + nearest(down * gate, (17, 23)), block.fuse)
    torch.testing.assert_close(block(detail, semantics), want)


@pytest.mark.parametrize("size", [(64, 96), (51, 77)])
def test_network_against_the_plain_graph(size: tuple[int, int]) -> None:
    net = randomise(BiSeNetV2(5)).float()  # depthwise convolutions are slow in float64
    x = torch.randn(1, 3, *size)
    detail = x
    for unit, stride in zip(net.detail, (2, 1, 2, 1, 1, 2, 1, 1), strict=True):
        detail = conv_norm_relu(detail, unit, stride)
    semantics = net.semantic.stem(x)
    for path in ("stage3", "stage4", "stage5", "context"):
        semantics = net.semantic.get_submodule(path)(semantics)
    logits = pointwise(conv_norm_relu(net.aggregation(detail, semantics), net.head), net.classifier)
    want = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(net(x), want, rtol=0, atol=1e-4 * float(want.detach().abs().max()))


def test_booster_head_against_its_formula() -> None:
    head = randomise(BoosterHead(6, 5, stride=4))
    x = torch.randn(1, 6, 5, 7, dtype=torch.float64)
    wide = nearest(conv_norm_relu(x, head.conv), (10, 14))
    torch.testing.assert_close(head(x), pointwise(conv_norm_relu(wide, head.expand), head.classifier))
    assert head.expand[0].weight.shape == (16, 128, 3, 3)  # type: ignore[union-attr]


def test_start() -> None:
    """Every gather-and-expansion layer starts as its shortcut; deviations are those of the fan-out."""
    torch.manual_seed(0)
    net = BiSeNetV2(5).eval()
    block = net.semantic.stage3[1]
    x = torch.randn(1, 32, 8, 8)
    assert torch.equal(block(x), x.clamp_min(0))
    for weight in (net.head[0].weight, net.semantic.context.conv[0].weight):
        assert isinstance(weight, Tensor)
        assert weight.std().item() == pytest.approx((2 / (9 * weight.shape[0])) ** 0.5, rel=0.02)
    assert net.classifier.bias is not None
    assert not net.classifier.bias.any()


def test_training_with_one_sample_is_refused() -> None:
    net = BiSeNetV2(5)
    pool = net.semantic.context.pool
    assert list(norms_after_global_pooling(net)) == [pool[1], pool[2][1]]  # type: ignore[index]
    with pytest.raises(UserError, match="BiSeNetV2 cannot train with batch size 1"):
        net(torch.randn(1, 3, 64, 64))
