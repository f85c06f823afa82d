"""PIDNet against the published shapes and cost, plain forms of its parts, and its published training build."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from plain_forms import conv_norm, normalised, randomise
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models import Network, create
from segkd.models.pidnet import (
    PAPPM,
    BoundaryFusion,
    LightBoundaryFusion,
    PIDNet,
    PIDNetL,
    PIDNetM,
    PIDNetS,
    PixelAttentionFusion,
)
from segkd.supervision import Supervision
from segkd.taps import tap
from segkd.workbench.composing import compose

SIZES = {"s": (PIDNetS, 7_625_715), "m": (PIDNetM, 28_538_515), "l": (PIDNetL, 36_939_571)}
WITH_HEADS = {"s": 7_720_935, "m": 28_763_111, "l": 37_314_311}


@pytest.mark.parametrize("size", SIZES)
def test_parameters_and_cost(size: str) -> None:
    cls, count = SIZES[size]
    name = f"PIDNet-{size.upper()}[official,augment=False]"
    network = on_meta(lambda: cls(num_classes=19))
    assert sum(p.numel() for p in network.parameters()) == count
    assert difference(network, name) == (Counter(), Counter())
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == GOLDEN[name]["batchnorm"]["n"]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[name]["gmacs"]["512x1024"], rel=1e-3)


def supervised(size: str, data: str = "cityscapes") -> tuple[Network, Supervision]:
    """Network and supervision of a student's config, on meta."""
    model = compose(f"pidnet_{size}", data=data)["model"]
    network = on_meta(lambda: create(f"pidnet_{size}", num_classes=model["network"]["num_classes"]))
    assert isinstance(network, PIDNet)
    with torch.device("meta"):
        return network, Supervision(model["supervision"], network, torch.empty(1, 3, 64, 96))


@pytest.mark.parametrize("size", SIZES)
def test_with_its_heads_it_is_the_published_training_build(size: str) -> None:
    assert sum(p.numel() for part in supervised(size) for p in part.parameters()) == WITH_HEADS[size]


def test_loss_weights_are_the_published_ones() -> None:
    _, city = supervised("s")
    assert city.weights == {"main": 1.0, "detail": 0.4, "boundary": 20.0, "boundary_aware": 1.0}
    assert city.gates == {"boundary_aware": "boundary"}
    assert city.taps == {"detail": "detail4@input", "boundary": "boundary5@input"}
    hard: Any = city.losses["boundary_aware"].loss
    assert hard.class_weight.shape == city.losses["main"].class_weight.shape == (19,)  # type: ignore[union-attr]
    _, camvid = supervised("s", "camvid")
    assert camvid.losses["main"].class_weight is None
    assert (city.losses["boundary"].border, camvid.losses["boundary"].border) == (6, 0)


def convolved(x: Tensor, conv: nn.Module, groups: int = 1) -> Tensor:
    assert isinstance(conv, nn.Conv2d)
    return F.conv2d(x, conv.weight, conv.bias, padding=conv.weight.shape[-1] // 2, groups=groups)


def norm_act_conv(x: Tensor, block: nn.Module, groups: int = 1) -> Tensor:
    norm, _, conv = block.children()
    return convolved(normalised(x, norm).clamp_min(0), conv, groups)


def up(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_pixel_attention_against_its_formula() -> None:
    block = randomise(PixelAttentionFusion(4, 6, 3))
    fine, coarse = random(2, 4, 13, 21), random(2, 6, 7, 11)
    context = conv_norm(coarse, block.project)
    key, query = conv_norm(fine, block.key), up(conv_norm(context, block.query), (13, 21))
    agreement = 1 / (1 + torch.exp(-torch.einsum("nchw,nchw->nhw", key, query)))[:, None]
    want = fine * (1 - agreement) + up(context, (13, 21)) * agreement
    torch.testing.assert_close(block(fine, coarse), want)


def test_parallel_pyramid_against_its_formula() -> None:
    block = randomise(PAPPM(6, 4, 5))
    x = random(2, 6, 11, 19)
    pooled = [F.avg_pool2d(F.pad(x, (k // 2,) * 4), k, s) for k, s in ((5, 2), (9, 4), (17, 8))]
    pooled.append(x.mean((2, 3), keepdim=True))
    point = norm_act_conv(x, block.point)
    levels = [point + up(norm_act_conv(p, level[1]), (11, 19)) for p, level in zip(pooled, block.levels, strict=True)]
    parts = torch.cat([point, norm_act_conv(torch.cat(levels, 1), block.smooth, groups=4)], 1)
    torch.testing.assert_close(block(x), norm_act_conv(parts, block.project) + norm_act_conv(x, block.shortcut))


def test_boundary_fusions_against_their_formulas() -> None:
    light, full = randomise(LightBoundaryFusion(4)), randomise(BoundaryFusion(4))
    detail, context, boundary = random(1, 4, 9, 14), random(1, 4, 2, 3), random(1, 4, 9, 14)
    share, wide = 1 / (1 + torch.exp(-boundary)), up(context, (9, 14))
    want = conv_norm(detail + (1 - share) * wide, light.detail) + conv_norm(wide + share * detail, light.context)
    torch.testing.assert_close(light(detail, context, boundary), want)
    want = norm_act_conv(share * detail + (1 - share) * wide, full.mix)
    torch.testing.assert_close(full(detail, context, boundary), want)


@pytest.mark.parametrize("large", [False, True])
def test_branches_against_the_plain_graph(large: bool) -> None:
    """At an odd size: where the ReLUs are, who reads whom, and what the published heads see."""
    network = randomise(PIDNet(5, None, width=4, large=large))
    net: Any = network
    x = random(1, 3, 51, 77)
    shared = net.stage2(net.stage1(net.stem(x)).relu()).relu()
    context3 = net.context3(shared).relu()
    context4 = net.context4(context3).relu()
    p3 = net.to_detail3(net.detail3(shared), context3).relu()
    d3 = net.boundary3(shared) + up(conv_norm(context3, net.to_boundary3.project), (7, 10))
    p4 = net.to_detail4(net.detail4(p3), context4).relu()
    d4 = (net.boundary4(d3.relu()) + up(conv_norm(context4, net.to_boundary4.project), (7, 10))).relu()
    fused = net.fusion(net.detail5(p4), net.pyramid(net.context5(context4)), net.boundary5(d4))
    logits = norm_act_conv(norm_act_conv(fused, net.head), net.classifier)
    with tap(network, ["detail4@input", "boundary5@input"]) as features:
        found = network(x)
    torch.testing.assert_close(found, F.interpolate(logits, size=(51, 77), mode="bilinear", align_corners=True))
    torch.testing.assert_close(features["detail4@input"], p3)
    torch.testing.assert_close(features["boundary5@input"], d4)


@pytest.mark.parametrize("large", [False, True])
def test_only_the_ends_of_stages_are_signed(large: bool) -> None:
    network = randomise(PIDNet(5, None, width=4, large=large))
    stages = ["stage1", "stage2", "detail3", "detail4", "context3", "context4"]
    blocks = [f"{path}.{i}" for path in stages for i in range(len(network.get_submodule(path)))]  # type: ignore[arg-type]
    single = ["context5.0", "context5.1", "detail5", "boundary3", "boundary4", "boundary5"]
    with tap(network, [*blocks, *single]) as features:
        network(random(2, 3, 64, 96))
        signed = {path for path in (*blocks, *single) if (features[path] < 0).any()}
    ends = {f"{path}.{len(network.get_submodule(path)) - 1}" for path in stages}  # type: ignore[arg-type]
    assert signed == ends | set(single)


def test_training_with_one_sample_is_refused() -> None:
    with pytest.raises(UserError, match=r"PIDNetS cannot train with batch size 1"):
        PIDNetS(5)(torch.randn(1, 3, 64, 64))
