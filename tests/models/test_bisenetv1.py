"""BiSeNet against the published shapes and cost of both codes, plain forms, and the published training build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from plain_forms import conv_norm, conv_norm_relu, mean, nearest, pointwise, randomise, segmentor
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models import resnet
from segkd.models.base import norms_after_global_pooling
from segkd.models.bisenetv1 import AttentionFusion, AttentionRefinement, BiSeNetV1, ContextPath, norm_gate, squeeze_gate
from segkd.supervision import AuxHead
from segkd.training.config import Config
from segkd.training.optim import build_minimizers
from segkd.workbench.composing import compose

AUTHORS, PORT = "BiSeNetV1-R18[TorchSeg,inference part only]", "BiSeNetV1-R18[CoinCheung,aux_mode=eval]"
Up = Callable[[Tensor, tuple[int, int]], Tensor]


def bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def corners(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with aligned corners, by its formula: both axes as matrices of hat functions."""
    for axis, n in zip((2, 3), size, strict=True):
        m = x.shape[axis]
        at = torch.arange(n, dtype=x.dtype) * ((m - 1) / max(n - 1, 1))
        hats = (1 - (at[:, None] - torch.arange(m, dtype=x.dtype)).abs()).clamp_min(0)
        x = torch.movedim(torch.tensordot(hats, x, dims=([1], [axis])), 0, axis)
    return x


@pytest.mark.parametrize(
    ("variant", "name", "count"), [("torchseg", AUTHORS, 12_894_163), ("coincheung", PORT, 13_275_539)]
)
def test_parameters_and_cost(variant: str, name: str, count: int) -> None:
    network = on_meta(lambda: BiSeNetV1(num_classes=19, variant=variant))
    assert sum(p.numel() for p in network.parameters()) == count
    assert difference(network, name) == (Counter(), Counter())
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == GOLDEN[name]["batchnorm"]["n"]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[name]["gmacs"]["512x1024"], rel=1e-4)


def test_with_its_heads_it_is_the_published_training_build() -> None:
    """13,494,777 in TorchSeg; the port's heads have 64 channels, which makes 13,425,721."""
    model = segmentor("bisenetv1", "cityscapes")
    assert sum(p.numel() for p in model.parameters()) == 13_494_777
    assert set(model.supervision.weights.values()) == {1.0}
    heads = sum(p.numel() for _ in range(2) for p in AuxHead(128, 19, middle=64).parameters())
    assert 13_275_539 + heads == 13_425_721


def test_new_parts_learn_faster_and_neither_norms_nor_biases_decay() -> None:
    model = segmentor("bisenetv1", "camvid")
    groups = build_minimizers(Config.of(compose("bisenetv1", data="camvid")), model)["student"].optimizer.param_groups
    options = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        decay = 5e-4 if parameter.dim() > 1 else 0.0
        assert options[id(parameter)] == pytest.approx((0.01 if "trunk" in name else 0.1, decay)), name


def refined(x: Tensor, block: AttentionRefinement) -> Tensor:
    x = conv_norm_relu(x, block.conv)
    return x * conv_norm(mean(x), block.gate[1]).sigmoid()


def fused(detail: Tensor, context: Tensor, block: AttentionFusion) -> Tensor:
    """x (1 + sigmoid(gate)), where the gate is two 1x1 around a ReLU, or one 1x1 with BatchNorm."""
    x = conv_norm_relu(torch.cat([detail, context], 1), block.conv)
    inner = list(block.gate)[1:-1]
    if len(inner) == 3:
        return x * (1 + pointwise(pointwise(mean(x), inner[0]).clamp_min(0), inner[2]).sigmoid())
    return x * (1 + conv_norm(mean(x), inner[0]).sigmoid())


def taken_up(middle: Tensor, deep: Tensor, size: tuple[int, int], block: ContextPath, up: Up) -> Tensor:
    coarse = refined(deep, block.refine32) + conv_norm_relu(mean(deep), block.pool[1])
    coarse = conv_norm_relu(up(coarse, (middle.shape[2], middle.shape[3])), block.up16)
    return conv_norm_relu(up(refined(middle, block.refine16) + coarse, size), block.up8)


@pytest.mark.parametrize("gate", [squeeze_gate(6), squeeze_gate(6, reduction=3), norm_gate(6)])
def test_fusion_against_its_formula(gate: nn.Sequential) -> None:
    block = randomise(AttentionFusion(4 + 5, 6, gate))
    detail, context = torch.randn(2, 4, 7, 9, dtype=torch.float64), torch.randn(2, 5, 7, 9, dtype=torch.float64)
    torch.testing.assert_close(block(detail, context), fused(detail, context, block))


@pytest.mark.parametrize("size", [(64, 96), (51, 77)])
@pytest.mark.parametrize(("variant", "up", "last"), [("torchseg", corners, corners), ("coincheung", nearest, bilinear)])
def test_network_against_the_plain_graph(size: tuple[int, int], variant: str, up: Up, last: Up) -> None:
    net = randomise(BiSeNetV1(5, variant=variant))
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    spatial = x
    for unit, stride in zip(net.spatial, (2, 2, 2, 1), strict=True):
        spatial = conv_norm_relu(spatial, unit, stride)
    *_, middle, deep = net.trunk(x)
    context = taken_up(middle, deep, (spatial.shape[2], spatial.shape[3]), net.context, up)
    logits = pointwise(conv_norm_relu(fused(spatial, context, net.fusion), net.head), net.classifier)
    torch.testing.assert_close(net(x), last(logits, size))


def test_start() -> None:
    """He's normal init by fan-in in the new parts, sqrt 2 smaller in the port; by fan-out in ResNet."""
    torch.manual_seed(0)
    for variant, gain in (("torchseg", 2.0), ("coincheung", 1.0)):
        net = BiSeNetV1(5, variant=variant)
        weight = net.context.refine32.conv[0].weight
        assert isinstance(weight, Tensor)
        assert weight.std().item() == pytest.approx((gain / (9 * 512)) ** 0.5, rel=0.02)
        deep = net.trunk.layer4[0].body[0][0].weight  # type: ignore[index,union-attr]
        assert isinstance(deep, Tensor)
        assert deep.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.02)


def test_pretrained_takes_resnets_weights_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def tensors(arch: str, source: object) -> dict[str, Tensor]:
        asked.append(arch)
        return {"conv1.weight": torch.full((64, 3, 7, 7), 0.5)}

    monkeypatch.setattr("segkd.models.bisenetv1.imagenet_weights", tensors)
    assert BiSeNetV1(5).trunk.stem[0][0].weight.std() > 0  # type: ignore[index,union-attr]
    assert asked == []
    assert (BiSeNetV1(5, pretrained=True).trunk.stem[0][0].weight == 0.5).all()  # type: ignore[index,union-attr]
    assert asked == ["resnet18"]
    assert resnet.our_key("conv1.weight") == "stem.0.0.weight"


def test_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown variant 'torchsegg' of BiSeNetV1; did you mean 'torchseg'"):
        BiSeNetV1(5, variant="torchsegg")


def test_training_with_one_sample_is_refused() -> None:
    found = {v: len(list(norms_after_global_pooling(BiSeNetV1(5, variant=v)))) for v in ("torchseg", "coincheung")}
    assert found == {"torchseg": 3, "coincheung": 4}  # two refinements and the global mean; the port's fusion too
    with pytest.raises(UserError, match="BiSeNetV1 cannot train with batch size 1"):
        BiSeNetV1(5)(torch.randn(1, 3, 64, 64))
