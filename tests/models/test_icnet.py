"""ICNet against the shapes and cost of the authors' Caffe graph, and plain forms of its parts."""

from __future__ import annotations

from collections import Counter

import published
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.icnet import CascadeFusion, ICNet, SumPooling, halved, pool_windows
from segkd.segmentor import Segmentor
from segkd.workbench.composing import compose

GOLDEN = "ICNet[hszhao caffe prototxt bnnomerge, deploy graph, parsed not run]"


def test_shapes_equal_golden() -> None:
    network = published.on_meta(lambda: ICNet(num_classes=19))
    assert published.difference(network, GOLDEN) == (Counter(), Counter())
    assert sum(p.numel() for p in network.parameters()) == 6_699_987


def test_cost_is_the_published_one() -> None:
    network = published.on_meta(lambda: ICNet(num_classes=19))
    assert published.gmacs(network, 1025, 2049) == pytest.approx(published.GOLDEN[GOLDEN]["gmacs"]["1025x2049"], 1e-9)


@pytest.mark.parametrize(
    ("bins", "kernel", "stride"), [(2, (17, 33), (16, 32)), (3, (13, 25), (10, 20)), (6, (8, 15), (5, 10))]
)
def test_windows_are_the_published_ones(bins: int, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    """On the 33 x 65 of the published size, kernels and strides are those in the authors' file."""
    x = torch.randn(1, 2, 33, 65, dtype=torch.float64)
    torch.testing.assert_close(pool_windows(x, bins), F.avg_pool2d(x, kernel, stride))
    assert pool_windows(x, bins).shape[-2:] == (bins, bins)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 2), (5, 7), (7, 40), (12, 15)])
def test_sum_pooling_against_its_definition(size: tuple[int, int]) -> None:
    """The map plus five views of it; each has the mean colour of a constant map; windows reach both ends."""
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    want = x + x.mean(dim=(2, 3), keepdim=True)
    for bins in (2, 3, 6):
        level = pool_windows(x, bins)
        assert level.shape[-2:] == tuple(min(bins, length) for length in size)
        want = want + F.interpolate(level, size=size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(SumPooling()(x), want)
    torch.testing.assert_close(SumPooling()(torch.ones_like(x)), torch.full_like(x, 5))
    marked = torch.zeros_like(x)
    marked[..., -1, -1] = 1
    assert all((pool_windows(marked, bins)[..., -1, -1] > 0).all() for bins in (2, 3, 6))


def test_fusion_against_its_formula() -> None:
    """relu(bn(3x3 of dilation 2 (coarse resized)) + bn(1x1(fine))), in float64, at odd sizes."""
    torch.manual_seed(0)
    fusion = CascadeFusion(coarse=6, fine=4, cout=5).double().eval()
    coarse, fine = torch.randn(1, 6, 5, 6, dtype=torch.float64), torch.randn(1, 4, 9, 12, dtype=torch.float64)
    up = F.interpolate(coarse, size=(9, 12), mode="bilinear", align_corners=True)
    total = F.conv2d(up, fusion.coarse[0].weight, padding=2, dilation=2)  # type: ignore[arg-type]
    total = total + F.conv2d(fine, fusion.fine[0].weight)  # type: ignore[arg-type]
    torch.testing.assert_close(fusion(coarse, fine), (total / (1 + 1e-5) ** 0.5).clamp_min(0))


def test_halving_an_odd_size_takes_every_second_pixel() -> None:
    x = torch.randn(1, 3, 33, 65)
    torch.testing.assert_close(halved(x), x[..., ::2, ::2])
    assert halved(torch.randn(1, 3, 34, 7)).shape == (1, 3, 17, 4)


def test_logits_keep_the_corners() -> None:
    """At 32 k + 1 every fourth logit is the classifier's own, and the maps have the published sizes."""
    network = ICNet(num_classes=5).eval()
    seen: dict[str, Tensor] = {}
    for path in ("stage2", "middle", "context", "detail", "classifier"):
        network.get_submodule(path).register_forward_hook(lambda m, a, out, path=path: seen.update({path: out}))
    with torch.no_grad():
        logits = network(torch.randn(1, 3, 65, 97))
    sizes = {path: tuple(out.shape[-2:]) for path, out in seen.items()}
    assert sizes == {"stage2": (9, 13), "middle": (5, 7), "context": (3, 4), "detail": (9, 13), "classifier": (17, 25)}
    torch.testing.assert_close(logits[..., ::4, ::4], seen["classifier"])


def test_strides_and_dilations_of_the_bottlenecks() -> None:
    network = ICNet(num_classes=5)
    first, second, _ = network.middle.body
    assert (first[0].stride, second[0].stride) == ((2, 2), (1, 1))  # type: ignore[index]
    for stage, dilation in ((network.stage2, 1), (network.stage3, 1), (network.stage4, 2), (network.stage5, 4)):
        assert {block.body[1][0].dilation for block in stage} == {(dilation, dilation)}  # type: ignore[index,union-attr]
    assert {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {0.05}


def test_its_input_is_bgr_less_the_mean() -> None:
    image = torch.tensor([130, 120, 110], dtype=torch.uint8).view(1, 3, 1, 1)
    want = torch.tensor([110 - 103.939, 120 - 116.779, 130 - 123.68])
    torch.testing.assert_close(ICNet(num_classes=5).preprocess(image).flatten(), want)


def test_its_supervision_has_two_plain_classifiers() -> None:
    cfg = compose("icnet", data="cityscapes")
    heads = Segmentor(network=cfg["model"]["network"], supervision=cfg["model"]["supervision"]).supervision.heads
    assert {name: sum(p.numel() for p in head.parameters()) for name, head in heads.items()} == {
        "aux8": 128 * 19 + 19,
        "aux16": 256 * 19 + 19,
    }
