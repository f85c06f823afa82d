"""SwiftNet, single and pyramid, against the published shapes and cost, and plain forms of their parts."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.blocks import NormActConv
from segkd.models.swiftnet import (
    LEVELS,
    Blend,
    LevelBasic,
    SpatialPyramidPooling,
    SwiftNetRN18,
    SwiftNetRN18Pyramid,
    shrink,
    sum_by_stride,
)

NAME = "SwiftNet-resnet18 single-scale[official]"


def pre_act(x: Tensor, layer: NormActConv) -> Tensor:
    """BatchNorm (eps 1e-5), ReLU, convolution."""
    norm, _, conv = layer
    x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5)  # type: ignore[arg-type]
    return F.conv2d(x.clamp_min(0), conv.weight, conv.bias, padding=conv.kernel_size[0] // 2)  # type: ignore[arg-type, index, operator]


def randomise(network: nn.Module) -> None:
    """BatchNorms that do something."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
            layer.bias.data.normal_(0, 0.3)


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def test_single_scale_is_the_published_one() -> None:
    network = on_meta(lambda: SwiftNetRN18(num_classes=19))
    assert difference(network, NAME) == (Counter(), Counter())
    assert sum(p.numel() for p in network.parameters()) == GOLDEN[NAME]["total_params"]
    for size, cost in GOLDEN[NAME]["gmacs"].items():
        assert gmacs(network, *map(int, size.split("x"))) == pytest.approx(cost, rel=1e-3)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == GOLDEN[NAME]["batchnorm"]["n"]
    slow = {m for m in network.pooling.modules() if isinstance(m, nn.BatchNorm2d)}  # type: ignore[union-attr]
    assert {norm for norm in norms if norm.momentum == 0.005} == slow


def test_pyramid_has_the_published_size_and_cost() -> None:
    """12.0563 M, 32.05 and 128.19 GMAC, as counted on the authors' code."""
    network = on_meta(lambda: SwiftNetRN18Pyramid(num_classes=19))
    assert sum(p.numel() for p in network.parameters()) == 12_056_275
    assert gmacs(network, 512, 1024) == pytest.approx(32.05, rel=1e-3)
    assert gmacs(network, 1024, 2048) == pytest.approx(128.19, rel=1e-3)


def test_pooling_against_its_definition() -> None:
    """A map of 8 x 16, which every grid divides: plain means over square cells, in float64."""
    torch.manual_seed(0)
    block = SpatialPyramidPooling(12, 8).double().eval()
    randomise(block)
    x = torch.randn(2, 12, 8, 16, dtype=torch.float64)
    reduced = pre_act(x, block.reduce)
    parts = [reduced]
    for rows, level in zip((8, 4, 2), block.levels, strict=True):
        cell = 8 // rows
        means = reduced.reshape(2, 8, rows, cell, 2 * rows, cell).mean(dim=(3, 5))
        parts.append(resize(pre_act(means, level), (8, 16)))  # type: ignore[arg-type]
    assert sum(part.shape[1] for part in parts) == 8 + 3 * 2
    torch.testing.assert_close(block(x), pre_act(torch.cat(parts, 1), block.project))


def test_blend_against_its_definition() -> None:
    torch.manual_seed(0)
    blend = Blend().double().eval()
    randomise(blend)
    fine, coarse = torch.randn(1, 128, 7, 9, dtype=torch.float64), torch.randn(1, 128, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(blend(fine, coarse), pre_act(fine + resize(coarse, (7, 9)), blend.blend))


@pytest.mark.parametrize("network_type", [SwiftNetRN18, SwiftNetRN18Pyramid])
def test_initial_variance(network_type: type[SwiftNetRN18 | SwiftNetRN18Pyramid]) -> None:
    """2 / fan-out, for the 1x1 that projects too; the classifier's weights are uniform up to 1 / sqrt(fan-in)."""
    torch.manual_seed(0)
    network = network_type(150)
    for layer in (network.up4.blend, network.trunk):
        conv = next(m for m in layer.modules() if isinstance(m, nn.Conv2d))
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)
    weight = network.classifier[2].weight
    assert isinstance(weight, Tensor)
    assert weight.abs().max().item() == pytest.approx(128**-0.5, rel=0.01)


@pytest.mark.parametrize("variant", ["authors", "paper"])
def test_ladder_of_the_single_scale(variant: str) -> None:
    """The decoder from the trunk's sums (rectified in the authors' code), at an odd size."""
    torch.manual_seed(0)
    network = SwiftNetRN18(5, variant=variant).double().eval()
    randomise(network)
    x = torch.randn(1, 3, 70, 101, dtype=torch.float64)
    first, second, third, fourth = network.trunk(x)
    assert bool((first < 0).any()) is (variant == "paper")
    ladder = network.pooling(fourth)
    for skip, feature, up in (
        (network.skip16, third, network.up16),
        (network.skip8, second, network.up8),
        (network.skip4, first, network.up4),
    ):
        ladder = pre_act(pre_act(feature, skip) + resize(ladder, feature.shape[-2:]), up.blend)
    torch.testing.assert_close(network(x), resize(pre_act(ladder, network.classifier), (70, 101)))


def test_levels_share_convolutions_but_not_statistics() -> None:
    torch.manual_seed(0)
    block = LevelBasic(4, 6, 2).double().eval()
    randomise(block)
    x = torch.randn(1, 4, 9, 11, dtype=torch.float64)

    def norm(y: Tensor, layer: nn.Module) -> Tensor:
        return F.batch_norm(y, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=1e-5)  # type: ignore[arg-type]

    side = norm(F.conv2d(x, block.shortcut[0].weight, stride=2), block.shortcut[1])  # type: ignore[index]
    outputs = []
    for level in range(LEVELS):
        out = norm(F.conv2d(x, block.conv1.weight, stride=2, padding=1), block.norm1[level]).clamp_min(0)
        outputs.append(norm(F.conv2d(out, block.conv2.weight, padding=1), block.norm2[level]) + side)
        torch.testing.assert_close(block(x, level), outputs[-1])
    assert not torch.allclose(outputs[0], outputs[1])


def test_maps_of_equal_stride_are_summed() -> None:
    """Level l, stage k has the stride 4 * 2**(k + l): of 3 x 4 maps, 1, 2, 3, 3, 2 and 1 meet."""
    levels = [[torch.tensor(float(10**level * (stage + 1))) for stage in range(4)] for level in range(3)]
    found = [int(x) for x in sum_by_stride(levels)]
    assert found == [1, 2 + 10, 3 + 20 + 100, 4 + 30 + 200, 40 + 300, 400]


def test_levels_of_any_image_meet() -> None:
    """The ladder from each level's maps, at a size where halves round up."""
    torch.manual_seed(0)
    network = SwiftNetRN18Pyramid(5).double().eval()
    randomise(network)
    x = torch.randn(1, 3, 101, 67, dtype=torch.float64)
    images = [x] + [F.interpolate(x, size=size, mode="bicubic", align_corners=False) for size in ((51, 34), (26, 17))]
    assert torch.equal(shrink(x, 4), images[2])
    maps = [network.trunk(image, level) for level, image in enumerate(images)]
    ladder = maps[2][3]
    for stride, blend in ((5, network.up64), (4, network.up32), (3, network.up16), (2, network.up8), (1, network.up4)):
        terms = [maps[level][stride - 1 - level] for level in range(3) if 0 <= stride - 1 - level < 4]
        skip = torch.stack(terms).sum(0)
        ladder = pre_act(skip + resize(ladder, skip.shape[-2:]), blend.blend)
    torch.testing.assert_close(network(x), resize(pre_act(ladder, network.classifier), (101, 67)))
