"""STDC-Seg against the published shapes and cost, plain forms of its parts, and the published training build."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from plain_forms import conv_norm, conv_norm_relu, mean, nearest, pointwise, randomise, segmentor
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.base import norms_after_global_pooling
from segkd.models.bisenetv1 import AttentionRefinement
from segkd.models.stdc import STDC, STDC1, STDC2, ShortTermConcat
from segkd.supervision import DetailLoss
from segkd.taps import tap
from segkd.training.config import Config
from segkd.training.optim import build_minimizers
from segkd.workbench.composing import compose

NETWORKS = {
    "stdc1": (STDC1, "STDC1-Seg[official, inference part only]", 8_275_104),
    "stdc2": (STDC2, "STDC2-Seg[official, inference part only]", 12_305_568),
}


@pytest.mark.parametrize("key", NETWORKS)
def test_parameters_and_cost(key: str) -> None:
    cls, name, count = NETWORKS[key]
    network = on_meta(lambda: cls(num_classes=19))
    assert sum(p.numel() for p in network.parameters()) == count
    assert difference(network, name) == (Counter(), Counter())
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}
    for size in ("512x1024", "768x1536"):
        height, width = map(int, size.split("x"))
        assert gmacs(network, height, width) == pytest.approx(GOLDEN[name]["gmacs"][size], rel=1e-4)


@pytest.mark.parametrize(("key", "count"), [("stdc1", 8_572_896), ("stdc2", 12_603_360)])
def test_with_its_heads_it_is_the_published_training_build(key: str, count: int) -> None:
    """Less what that carries along unused: the classifier of ImageNet and the detail heads at strides 2, 4 and 16."""
    model = segmentor(key, "cityscapes")
    assert sum(p.numel() for p in model.parameters()) == count
    assert set(model.supervision.weights.values()) == {1.0}
    assert isinstance(model.supervision.losses["detail"], DetailLoss)


def test_heads_learn_faster_and_norms_do_not_decay() -> None:
    model = segmentor("stdc1", "camvid")
    groups = build_minimizers(Config.of(compose("stdc1", data="camvid")), model)["student"].optimizer.param_groups
    options = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    fast = ("student.fusion", "student.head", "student.classifier", "supervision")
    for name, parameter in model.named_parameters():
        decay = 5e-4 if parameter.dim() > 1 else 0.0
        assert options[id(parameter)] == pytest.approx((0.1 if name.startswith(fast) else 0.01, decay)), name


@pytest.mark.parametrize(("cin", "stride"), [(6, 1), (6, 2), (16, 1)])
def test_module_against_its_formula(cin: int, stride: int) -> None:
    block = randomise(ShortTermConcat(cin, 16, stride))
    x = torch.randn(2, cin, 13, 18, dtype=torch.float64)
    first = conv_norm_relu(x, block.first)
    y = conv_norm(first, block.down, 2, depthwise=True) if stride == 2 else first
    second = conv_norm_relu(y, block.rest[0])
    third = conv_norm_relu(second, block.rest[1])
    fourth = conv_norm_relu(third, block.rest[2])
    if stride == 2:
        first = F.avg_pool2d(F.pad(first, (1, 1, 1, 1)), 3, 2)  # counts the padding
    want = torch.cat([first, second, third, fourth], 1)
    assert [part.shape[1] for part in (first, second, third, fourth)] == [8, 4, 2, 2]
    torch.testing.assert_close(block(x), want)


def refined(x: Tensor, block: AttentionRefinement) -> Tensor:
    x = conv_norm_relu(x, block.conv)
    return x * conv_norm(mean(x), block.gate[1]).sigmoid()


@pytest.mark.parametrize("size", [(64, 96), (51, 77)])
@pytest.mark.parametrize("cls", [STDC1, STDC2])
def test_network_against_the_plain_graph(size: tuple[int, int], cls: type[STDC]) -> None:
    """The fusion reads the encoder's own map of stride 8: there is no spatial path."""
    net = randomise(cls(5)).float()  # depthwise convolutions are slow in float64
    x = torch.randn(2, 3, *size)
    with tap(net, ["stage3", "stage4", "stage5"]) as features:
        logits = net(x)
    stem = conv_norm_relu(conv_norm_relu(x, net.stem[0], 2), net.stem[1], 2)
    detail, middle, deep = net.stage3(stem), features["stage4"], features["stage5"]
    torch.testing.assert_close(features["stage3"], detail, rtol=0, atol=1e-4 * float(detail.detach().abs().max()))
    path = net.context
    coarse = refined(deep, path.refine32) + conv_norm_relu(mean(deep), path.pool[1])
    coarse = conv_norm_relu(nearest(coarse, (middle.shape[2], middle.shape[3])), path.up16)
    coarse = refined(middle, path.refine16) + coarse
    context = conv_norm_relu(nearest(coarse, (detail.shape[2], detail.shape[3])), path.up8)
    mixed = conv_norm_relu(torch.cat([detail, context], 1), net.fusion.conv)
    _, squeeze, _, widen, _ = net.fusion.gate
    mixed = mixed * (1 + pointwise(pointwise(mean(mixed), squeeze).clamp_min(0), widen).sigmoid())
    plain = pointwise(conv_norm_relu(mixed, net.head), net.classifier)
    want = F.interpolate(plain, size=size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(logits, want, rtol=0, atol=1e-4 * float(want.detach().abs().max()))


def test_stages_have_the_papers_numbers_of_modules() -> None:
    for cls, want in ((STDC1, [2, 2, 2]), (STDC2, [4, 5, 3])):
        net = on_meta(lambda cls=cls: cls(5))  # type: ignore[misc]
        stages = [net.get_submodule(path) for path in ("stage3", "stage4", "stage5")]
        assert [len(list(stage.children())) for stage in stages] == want


def test_start() -> None:
    """By fan-out in the encoder, variance 1 / fan-in behind it."""
    torch.manual_seed(0)
    net = STDC1(5)
    for weight, variance in (
        (net.stage5[0].rest[0][0].weight, 2 / (9 * 256)),  # type: ignore[index,union-attr]
        (net.context.refine32.conv[0].weight, 1 / (9 * 1024)),
    ):
        assert isinstance(weight, Tensor)
        assert weight.std().item() == pytest.approx(variance**0.5, rel=0.02)


def test_only_logits_in_the_network_and_no_bias() -> None:
    assert not [name for name, m in STDC1(5).named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]


def test_training_with_one_sample_is_refused() -> None:
    net = STDC1(5)
    path = net.context
    units = (path.pool[1], path.refine32.gate[1], path.refine16.gate[1])
    assert list(norms_after_global_pooling(net)) == [unit[1] for unit in units]  # type: ignore[index]
    with pytest.raises(UserError, match="STDC1 cannot train with batch size 1"):
        net(torch.randn(1, 3, 64, 64))
