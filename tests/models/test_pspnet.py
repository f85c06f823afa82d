"""PSPNet against the golden shapes, the published cost, and plain forms of its parts."""

from __future__ import annotations

from collections import Counter

import published
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.blocks import ResidualBottleneck
from segkd.models.pspnet import CornerPyramidPooling, PSPNet
from segkd.segmentor import Segmentor
from segkd.supervision import AuxHead
from segkd.training.config import Config
from segkd.training.optim import build_minimizers
from segkd.workbench.composing import compose

GOLDEN = "PSPNet-101[hszhao/semseg official]"


def test_shapes_with_the_auxiliary_head_equal_golden() -> None:
    network = published.on_meta(lambda: PSPNet(num_classes=19))
    head = published.on_meta(lambda: AuxHead(1024, 19, middle=256))
    assert sum(p.numel() for part in (network, head) for p in part.parameters()) == 68_072_166
    assert published.shapes_of(network) + published.shapes_of(head) == published.published_shapes(GOLDEN)


def test_cost_is_the_published_one() -> None:
    """The published network takes 8 k + 1 alone, and was measured at 513 x 1025."""
    network = published.on_meta(lambda: PSPNet(num_classes=19))
    assert published.gmacs(network, 513, 1025) == pytest.approx(published.GOLDEN[GOLDEN]["gmacs"]["512x1024"], rel=1e-3)


def test_smaller_encoders() -> None:
    """49.080 M parameters and 376.6 GMAC with a ResNet-50 as published; its auxiliary head has 2.365 M of them."""
    network = published.on_meta(lambda: PSPNet(num_classes=19, encoder="resnet50"))
    assert sum(p.numel() for p in network.parameters()) == 49_080_038 - 2_364_691
    assert published.gmacs(network, 513, 1025) == pytest.approx(376.6, rel=1e-3)
    with pytest.raises(UserError, match="did you mean 'resnet50'"):
        PSPNet(num_classes=5, encoder="resnet5")


def windows(length: int, bins: int) -> list[slice]:
    return [slice(i * length // bins, -(-(i + 1) * length // bins)) for i in range(bins)]


def test_pyramid_pooling_against_its_definition() -> None:
    """Means over cells that overlap where the size is no multiple of the bins; resizes keep the corners; float64."""
    torch.manual_seed(0)
    block = CornerPyramidPooling(8, 6, kernel=3).double().eval()
    x = torch.randn(2, 8, 13, 17, dtype=torch.float64)
    parts = [x]
    for bins, level in zip((1, 2, 3, 6), block.levels, strict=True):
        rows = [[x[:, :, r, c].mean(dim=(2, 3)) for c in windows(17, bins)] for r in windows(13, bins)]
        means = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
        conv, norm, _ = level[1]  # type: ignore[index]
        value = F.conv2d(means, conv.weight).clamp_min(0) / (1 + norm.eps) ** 0.5
        parts.append(F.interpolate(value, size=(13, 17), mode="bilinear", align_corners=True))
    weight: Tensor = block.project[0].weight  # type: ignore[assignment]
    assert weight.shape == (6, 16, 3, 3)
    want = F.conv2d(torch.cat(parts, 1), weight, padding=1).clamp_min(0) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block(x), want)


@pytest.mark.parametrize(("stage", "index", "dilation"), [("layer3", 0, 2), ("layer3", 5, 2), ("layer4", 0, 4)])
def test_dilated_blocks_against_their_definition(stage: str, index: int, dilation: int) -> None:
    """The first block of a stage is dilated like the others, and no block of these stages has a stride; float64."""
    torch.manual_seed(0)
    network = PSPNet(num_classes=5, encoder="resnet50")
    block = network.get_submodule(stage)[index].double().eval()  # type: ignore[index]
    assert isinstance(block, ResidualBottleneck)
    x = torch.randn(1, block.body[0][0].in_channels, 7, 9, dtype=torch.float64)  # type: ignore[index]
    out = x
    for part, padding in zip(block.body, (0, dilation, 0), strict=True):
        out = out.clamp_min(0) if part is not block.body[0] else out
        out = F.conv2d(out, part[0].weight, padding=padding, dilation=max(padding, 1)) / (1 + 1e-5) ** 0.5  # type: ignore[index]
    identity = x
    if not isinstance(block.shortcut, nn.Identity):
        identity = F.conv2d(x, block.shortcut[0].weight) / (1 + 1e-5) ** 0.5  # type: ignore[index]
    torch.testing.assert_close(block(x), (out + identity).clamp_min(0))


def test_logits_keep_the_corners() -> None:
    """At 8 k + 1 every eighth logit is the classifier's own."""
    network = PSPNet(num_classes=5, encoder="resnet18").eval()
    seen: list[Tensor] = []
    network.classifier.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        logits = network(torch.randn(1, 3, 65, 97))
    assert seen[0].shape == (1, 5, 9, 13)
    torch.testing.assert_close(logits[..., ::8, ::8], seen[0])


def test_training_with_one_sample_is_refused() -> None:
    with pytest.raises(UserError, match="PSPNet cannot train with batch size 1"):
        PSPNet(num_classes=5, encoder="resnet18")(torch.randn(1, 3, 64, 64))


def test_dropout_takes_whole_channels() -> None:
    network = PSPNet(num_classes=5, encoder="resnet18", dropout=0.5)
    dropped = network.dropout(torch.ones(1, 512, 3, 3)) == 0
    assert torch.equal(dropped.all(dim=(2, 3)), dropped.any(dim=(2, 3)))
    assert 0 < dropped.float().mean() < 1


@pytest.mark.parametrize("data", ["camvid", "cityscapes"])
def test_all_but_the_encoder_learns_faster(data: str) -> None:
    cfg = compose("pspnet_r50", data=data)
    network = dict(cfg["model"]["network"], encoder="resnet18")
    model = Segmentor(network=network, supervision=cfg["model"]["supervision"])
    groups = build_minimizers(Config.of(cfg), model)["student"].optimizer.param_groups
    rates = Counter({rate: sum(len(g["params"]) for g in groups if g["lr"] == rate) for rate in (0.01, 0.1)})
    encoder = [p for path, p in model.student.named_parameters() if path.startswith(("stem", "layer"))]
    assert rates == {0.01: len(encoder), 0.1: len(list(model.parameters())) - len(encoder)}
