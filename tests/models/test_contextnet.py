"""ContextNet against the shapes and cost of its widespread port, and plain forms of its parts."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.contextnet import ContextNet

NAME = "ContextNet[EffSegNets]"


def test_port_is_the_published_one() -> None:
    """Its stems pad by 0 and so make 255 rows of 512 image rows: 0.3 % less work."""
    network = on_meta(lambda: ContextNet(num_classes=19, variant="port"))
    assert difference(network, NAME) == (Counter(), Counter())
    assert sum(p.numel() for p in network.parameters()) == GOLDEN[NAME]["total_params"]
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[NAME]["gmacs"]["512x1024"], rel=5e-3)


def test_paper_differs_from_the_port_by_its_last_convolution_and_its_head() -> None:
    network = on_meta(lambda: ContextNet(num_classes=19))
    more, less = difference(network, NAME)
    assert more == Counter({(128, 128, 3, 3): 1})
    # Two depthwise separable convolutions with two norms each; the last convolution has a norm of its own.
    assert less == Counter({(128, 1, 3, 3): 2, (128, 128, 1, 1): 2, (128,): 2 * 4 - 2})
    assert sum(p.numel() for p in network.parameters()) == 988_179
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-5}


def norm(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=1e-5)  # type: ignore[arg-type]


def randomise(network: nn.Module) -> None:
    """BatchNorms that do something."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
            layer.bias.data.normal_()


@pytest.mark.parametrize(("variant", "act"), [("paper", False), ("port", True)])
def test_detail_branch(variant: str, act: bool) -> None:
    """3x3 of stride 2, then depthwise and pointwise with a ReLU after the pointwise, in the port after both."""
    torch.manual_seed(0)
    branch = ContextNet(5, variant=variant).detail.double().eval()
    randomise(branch)
    x = torch.randn(1, 3, 21, 35, dtype=torch.float64)
    stem = branch[0]
    want = F.relu(norm(F.conv2d(x, stem[0].weight, stride=2, padding=1), stem[1]))  # type: ignore[index]
    for block, stride in zip(branch[1:], (2, 2, 1), strict=True):
        (depth, depth_norm, *_), (point, point_norm, _) = block  # type: ignore[misc]
        want = norm(F.conv2d(want, depth.weight, stride=stride, padding=1, groups=depth.weight.shape[0]), depth_norm)
        want = F.relu(norm(F.conv2d(F.relu(want) if act else want, point.weight), point_norm))
    torch.testing.assert_close(branch(x), want)
    assert want.shape == (1, 128, 3, 5)


def test_context_branch_sees_a_quarter_of_the_image() -> None:
    """Its stages are what the paper's table lists: strides 1, 1, 2, 2, 1, 1 and 1, 1, 3, 3, 2, 2 blocks."""
    context = ContextNet(5).context.eval()
    x = torch.randn(1, 3, 97, 130)
    quarter = F.interpolate(x, size=(25, 33), mode="bilinear", align_corners=False)
    with torch.no_grad():
        want, sizes = context.stem(quarter), []
        for stage in context.stages:
            want = stage(want)
            sizes.append(tuple(want.shape[1:]))
        torch.testing.assert_close(context(x), context.last(want))
    assert sizes == [(32, 13, 17), (32, 13, 17), (48, 7, 9), (64, 4, 5), (96, 4, 5), (128, 4, 5)]
    assert [len(stage) for stage in context.stages] == [1, 1, 3, 3, 2, 2]  # type: ignore[arg-type]
    assert [stage[0].body[1][0].groups for stage in context.stages] == [32, 192, 192, 288, 384, 576]  # type: ignore[index]


def test_fusion_is_dilated_by_the_factor_between_the_branches() -> None:
    assert ContextNet(5).fusion.spread[0].dilation == (4, 4)  # type: ignore[index]
    assert ContextNet(5, variant="port").fusion.spread[0].dilation == (1, 1)  # type: ignore[index]


def test_both_branches_and_the_head_count() -> None:
    torch.manual_seed(0)
    network = ContextNet(5, variant="port").eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        fused = network.fusion(network.detail(x), network.context(x))
        want = F.interpolate(network.classifier(network.head(fused)), size=(64, 64), mode="bilinear")
        torch.testing.assert_close(network(x), want)
    assert network.dropout.p == 0.1


def test_unknown_variant() -> None:
    with pytest.raises(UserError, match=r"no variant 'papr'.*'paper'"):
        ContextNet(5, variant="papr")
