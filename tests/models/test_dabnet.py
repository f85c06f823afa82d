"""DABNet against the published shapes and cost, and plain forms of its parts."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.blocks import NormAct
from segkd.models.dabnet import DABNet, DepthwiseAsymmetric

NAME = "DABNet[official]"


def randomise(network: nn.Module) -> None:
    """BatchNorms and PReLUs that do something."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
            layer.bias.data.normal_()
        elif isinstance(layer, nn.PReLU):
            layer.weight.data.uniform_(0.0, 0.5)


def norm_act(x: Tensor, norm: nn.BatchNorm2d, act: nn.PReLU) -> Tensor:
    out = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-3)  # type: ignore[arg-type]
    return out.clamp_min(0) + act.weight[:, None, None] * out.clamp_max(0)


def apply(x: Tensor, layer: NormAct) -> Tensor:
    return norm_act(x, layer.norm, layer.act)


def test_shapes_and_cost_are_the_published_ones() -> None:
    network = on_meta(lambda: DABNet(num_classes=19))
    assert difference(network, NAME) == (Counter(), Counter())
    assert sum(p.numel() for p in network.parameters()) == GOLDEN[NAME]["total_params"]
    for size, cost in GOLDEN[NAME]["gmacs"].items():
        assert gmacs(network, *map(int, size.split("x"))) == pytest.approx(cost, rel=1e-3)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == GOLDEN[NAME]["batchnorm"]["n"]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.1)}


@pytest.mark.parametrize("dilation", [2, 16])
def test_module_against_its_definition(dilation: int) -> None:
    """x + 1x1(act(local + context)), both of a 3x1 and a 1x3 per channel; in float64 at an odd size."""
    torch.manual_seed(0)
    block = DepthwiseAsymmetric(8, dilation).double().eval()
    randomise(block)
    x = torch.randn(2, 8, 19, 23, dtype=torch.float64)
    first, conv, second = block.reduce
    reduced = apply(F.conv2d(apply(x, first), conv.weight, padding=1), second)  # type: ignore[arg-type]
    total = torch.zeros_like(reduced)
    for branch, d in ((block.local, 1), (block.context, dilation)):
        pair, last = branch
        tall, norm, act, wide = pair  # type: ignore[misc]
        assert (tall.weight.shape, wide.weight.shape) == ((4, 1, 3, 1), (4, 1, 1, 3))
        out = norm_act(F.conv2d(reduced, tall.weight, padding=(d, 0), dilation=(d, 1), groups=4), norm, act)
        out = F.conv2d(out, wide.weight, padding=(0, d), dilation=(1, d), groups=4)
        total = total + apply(out, last)  # type: ignore[arg-type]
    last_act, expand = block.expand
    want = x + F.conv2d(apply(total, last_act), expand.weight)  # type: ignore[arg-type]
    torch.testing.assert_close(block(x), want)


def test_dilations_grow_as_published() -> None:
    network = on_meta(lambda: DABNet(num_classes=5))
    found = [
        [(block.context[0][0].dilation, block.context[0][3].dilation) for block in stage]  # type: ignore[index, union-attr]
        for stage in (network.stage2, network.stage3)  # type: ignore[union-attr]
    ]
    assert found == [[((d, d), (d, d)) for d in dilations] for dilations in ((2, 2, 2), (4, 4, 8, 8, 16, 16))]


def test_what_is_joined() -> None:
    """Each level is [stage, what went into it, image pooled by means that count the padding], at odd sizes too."""
    torch.manual_seed(0)
    network = DABNet(num_classes=5).eval()
    randomise(network)
    x = torch.randn(1, 3, 45, 67)
    seen: dict[str, Tensor] = {}
    for path in ("stem", "join1", "down2", "stage2", "join2", "down3", "stage3", "join3", "classifier"):
        network.get_submodule(path).register_forward_hook(
            lambda m, given, out, path=path: seen.update({path: out, f"{path}@input": given[0]})
        )
    logits = network(x)
    mean = torch.full((3, 1, 3, 3), 1 / 9)
    images = [x]
    for _ in range(3):
        images.append(F.conv2d(images[-1], mean, stride=2, padding=1, groups=3))
    torch.testing.assert_close(seen["join1@input"], torch.cat([seen["stem"], images[1]], 1))
    torch.testing.assert_close(seen["join2@input"], torch.cat([seen["stage2"], seen["down2"], images[2]], 1))
    torch.testing.assert_close(seen["join3@input"], torch.cat([seen["stage3"], seen["down3"], images[3]], 1))
    want = F.interpolate(seen["classifier"], size=(45, 67), mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, want)


def test_first_reduction_pools_and_second_does_not() -> None:
    torch.manual_seed(0)
    network = DABNet(num_classes=5).double().eval()
    randomise(network)
    x = torch.randn(1, 35, 13, 15, dtype=torch.float64)
    joined, act = network.down2
    padded = F.pad(x, (0, 1, 0, 1), value=-float("inf"))  # rounds up
    conv = F.conv2d(x, joined.conv.weight, stride=2, padding=1)  # type: ignore[union-attr, arg-type]
    want = torch.cat([conv, F.max_pool2d(padded, 2)], 1)
    torch.testing.assert_close(network.down2(x), apply(want, act))  # type: ignore[arg-type]
    assert not network.down3[0].pools  # type: ignore[union-attr]


def test_initial_variance() -> None:
    """He et al.: 2 / fan-in."""
    torch.manual_seed(0)
    weight = DABNet(num_classes=5).stage3[0].reduce[1].weight  # type: ignore[index, union-attr]
    assert weight.var().item() == pytest.approx(2 / (128 * 9), rel=0.05)
