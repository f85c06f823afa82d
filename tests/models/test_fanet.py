"""FANet against the published shapes and cost (its differences one by one), and plain forms of its parts."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.fanet import AttentionFusion, AuxOutput, FANet, FANet18, FANet34
from segkd.supervision import Supervision
from segkd.workbench.composing import compose

CASES = [(FANet18, "FANet-18"), (FANet34, "FANet-34")]
#: what the authors' inference build holds but never reads: up and smooth of two levels, and smooth of the coarsest
UNREAD = Counter({(32, 64, 1, 1): 1, (32,): 2, (128, 128, 3, 3): 1, (128, 512, 3, 3): 1, (128,): 4})


def golden(name: str) -> str:
    found = [key for key in GOLDEN if key.startswith(f"{name}[")]
    if not found:
        pytest.skip(f"no golden entry of {name}")
    return found[0]


@pytest.mark.parametrize(("network", "name"), CASES)
def test_shapes_are_the_published_ones_but_for_those_unread(network: type[FANet], name: str) -> None:
    assert difference(on_meta(lambda: network(19)), golden(name)) == (Counter(), UNREAD)


@pytest.mark.parametrize(("network", "name"), CASES)
@pytest.mark.parametrize(("height", "width"), [(512, 1024), (1024, 2048)])
def test_cost_is_the_published_one(network: type[FANet], name: str, height: int, width: int) -> None:
    """Less the smoothing of stride 64 that nothing reads, and the padding of 1 around three 1x1 convolutions."""
    published = GOLDEN[golden(name)]["gmacs"][f"{height}x{width}"]
    unread = 512 * 128 * 9 * (height // 64) * (width // 64)
    border = sum(
        channels * channels // 2 * 2 * (height // stride + width // stride + 2)
        for channels, stride in ((512, 64), (256, 32), (128, 16))
    )
    meta = on_meta(lambda: network(19))
    assert gmacs(meta, height, width) == pytest.approx(published - (unread + border) / 1e9, rel=1e-4)


def test_parameters_of_training() -> None:
    """13.970 M in the authors' training build [counted], 149,824 of which nothing reads even there."""
    cfg = compose("fanet18", data="cityscapes")["model"]
    network = FANet18(19).eval()
    supervision = Supervision(cfg["supervision"], network, torch.zeros(1, 3, 64, 64))
    own = sum(p.numel() for p in network.parameters()) + sum(p.numel() for p in supervision.parameters())
    assert sum(p.numel() for p in network.parameters()) == 13_080_128
    assert own + (64 * 32 + 2 * 32) + (128 * 128 * 9 + 2 * 128) == 13_970_176
    assert supervision.weights == {"main": 1.0, "aux64": 0.5, "aux32": 0.5}


def norm(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=1e-5)  # type: ignore[arg-type]


def randomise(network: nn.Module) -> None:
    """BatchNorms that do something."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
            layer.bias.data.normal_()


def leaky(x: Tensor) -> Tensor:
    return torch.maximum(x, 0.01 * x)


def test_fusion_against_its_definition() -> None:
    """x + act(1x1(q (k^T v))) + coarser resized, with the (H W)^2 attention written out; in float64 at an odd size."""
    torch.manual_seed(0)
    fusion = AttentionFusion(12).double().eval()
    randomise(fusion)
    x, coarser = torch.randn(2, 12, 7, 9, dtype=torch.float64), torch.randn(2, 12, 4, 5, dtype=torch.float64)
    attention = fusion.attention
    query, key, value = (
        norm(F.conv2d(x, layer[0].weight), layer[1]).flatten(2)  # type: ignore[arg-type]
        for layer in (attention.query, attention.key, attention.value)
    )
    query, key = (y / y.square().sum(1, keepdim=True).sqrt() for y in (query, key))
    weights = torch.einsum("ncp,ncq->npq", query, key)
    read = torch.einsum("npq,ncq->ncp", weights, leaky(value)).reshape_as(x)
    alone = x + leaky(norm(F.conv2d(read, fusion.project[0].weight), fusion.project[1]))  # type: ignore[arg-type]
    torch.testing.assert_close(fusion(x), alone)
    up = F.interpolate(coarser, size=(7, 9), mode="bilinear", align_corners=True)
    torch.testing.assert_close(fusion(x, coarser), alone + up)


def test_levels_are_joined_from_coarse_to_fine() -> None:
    """The whole decoder from the trunk's maps, by the network's own blocks but in plain order, at an odd size."""
    torch.manual_seed(0)
    network = FANet18(5).double().eval()
    randomise(network)
    x = torch.randn(1, 3, 97, 131, dtype=torch.float64)

    def resize(y: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(y, size=like.shape[-2:], mode="bilinear", align_corners=True)

    maps = network.trunk(x)
    assert [tuple(y.shape[-2:]) for y in maps] == [(13, 17), (7, 9), (4, 5), (2, 3)]
    carried = network.up64(network.fuse64(maps[3]))
    third = network.fuse32(maps[2]) + resize(carried, maps[2])
    second = network.fuse16(maps[1]) + resize(network.up32(third), maps[1])
    first = network.fuse8(maps[0]) + resize(network.up16(second), maps[0])
    joined = torch.cat([resize(network.smooth32(third), first), network.smooth8(first)], 1)
    (conv, bn, _), last = network.classifier
    features = leaky(norm(F.conv2d(joined, conv.weight, padding=1), bn))
    torch.testing.assert_close(network(x), resize(F.conv2d(features, last.weight), x))  # type: ignore[arg-type]


def test_trunk_has_leaky_relu_inside_and_relu_after_the_sums() -> None:
    torch.manual_seed(0)
    trunk = FANet18(5).trunk.double().eval()
    randomise(trunk)
    x = torch.randn(1, 3, 65, 65, dtype=torch.float64)
    conv, bn, _ = trunk.stem[0]  # type: ignore[misc]
    stem = F.max_pool2d(leaky(norm(F.conv2d(x, conv.weight, stride=2, padding=3), bn)), 3, 2, 1)
    block = trunk.layer1[0]
    (conv1, bn1, _), (conv2, bn2) = block.body  # type: ignore[union-attr, misc]
    out = leaky(norm(F.conv2d(stem, conv1.weight, stride=2, padding=1), bn1))
    out = norm(F.conv2d(out, conv2.weight, padding=1), bn2)
    side = norm(F.conv2d(stem, block.shortcut[0].weight, stride=2), block.shortcut[1])  # type: ignore[union-attr, index]
    torch.testing.assert_close(block(trunk.stem(x)), (out + side).clamp_min(0))
    deep = network_blocks(FANet34)
    assert deep == [3, 4, 6, 3]


def network_blocks(network: type[FANet]) -> list[int]:
    trunk = on_meta(lambda: network(5)).trunk
    return [len(layer) for layer in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)]  # type: ignore[union-attr, arg-type]


def test_auxiliary_head() -> None:
    """(3x3 to 128,) 3x3 to 64, each with BatchNorm and leaky ReLU, then 1x1 without bias."""
    torch.manual_seed(0)
    head = AuxOutput(20, 5, smooth=True).double().eval()
    randomise(head)
    x = torch.randn(1, 20, 3, 5, dtype=torch.float64)
    (conv, bn, _), ((conv1, bn1, _), last) = head  # type: ignore[misc]
    out = leaky(norm(F.conv2d(x, conv.weight, padding=1), bn))
    assert out.shape[1] == 128
    out = leaky(norm(F.conv2d(out, conv1.weight, padding=1), bn1))
    assert out.shape[1] == 64
    torch.testing.assert_close(head(x), F.conv2d(out, last.weight))


def test_initial_variance() -> None:
    """1 / fan-in outside the trunk, 2 / fan-in inside."""
    torch.manual_seed(0)
    network = FANet18(5)
    assert network.smooth32[0].weight.var().item() == pytest.approx(1 / (256 * 9), rel=0.05)  # type: ignore[union-attr]
    inside = network.trunk.layer4[1].body[0][0].weight  # type: ignore[union-attr, index]
    assert inside.var().item() == pytest.approx(2 / (512 * 9), rel=0.05)
