"""ERFNet against its published shapes and cost, and its block against a plain form."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from published import GOLDEN, difference, gmacs, on_meta
from torch import nn
from torch.nn import functional as F

from segkd.models.erfnet import ERFNet, FactorisedResidual, down
from segkd.supervision import inverse_log_weights
from segkd.workbench.composing import compose

NAME = "ERFNet[official pytorch]"

# Class weights on Cityscapes, as ERFNet's authors print them.
PRINTED = (
    2.81492, 6.98500, 3.78904, 9.94281, 9.77021, 9.51109, 10.31136, 10.02646, 4.63230, 9.56081, 7.86982, 9.51687,
    10.37373, 6.66160, 10.26049, 10.28789, 10.28980, 10.40536, 10.13810,
)  # fmt: skip

# Pixels of CamVid's 367 training labels, of each class and of void.
CAMVID_PIXELS = (
    10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967, 2503995,
)  # fmt: skip


def test_parameters_and_cost() -> None:
    """The published count includes the 1x1 that classifies while the encoder is trained alone, and idles here."""
    network = on_meta(lambda: ERFNet(num_classes=19))
    assert difference(network, NAME) == (Counter(), Counter({(19, 128, 1, 1): 1, (19,): 1}))
    assert sum(p.numel() for p in network.parameters()) == GOLDEN[NAME]["total_params"] - 19 * 129 == 2_064_191
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[NAME]["gmacs"]["512x1024"], rel=1e-3)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == GOLDEN[NAME]["batchnorm"]["n"]
    assert {norm.eps for norm in norms} == {1e-3}


def test_order_of_dilations_and_dropouts() -> None:
    network = ERFNet(5)
    assert [block.second[0].dilation for block in network.stage2] == [(1, 1)] * 5  # type: ignore[union-attr, index]
    deep = [(d, d) for d in (2, 4, 8, 16)] * 2
    assert [block.second[0].dilation for block in network.stage3] == deep  # type: ignore[union-attr, index]
    assert [block.first[0].dilation for block in network.stage3] == [(1, 1)] * 8  # type: ignore[union-attr, index]
    rates = [m.p for m in network.modules() if isinstance(m, nn.Dropout2d)]
    assert rates == [0.03] * 5 + [0.3] * 8 + [0.0] * 4
    assert ERFNet(5, dropout=(0.0, 0.1)).stage3[0].dropout.p == 0.1


@pytest.mark.parametrize("dilation", [1, 4])
def test_block_against_its_formula(dilation: int) -> None:
    torch.manual_seed(0)
    block = FactorisedResidual(6, dropout=0.5, dilation=dilation).double().eval()
    for norm in (block.norm1, block.norm2):
        norm.running_mean.normal_()  # type: ignore[union-attr]
        norm.running_var.uniform_(0.1, 1.0)  # type: ignore[union-attr]
    x = torch.randn(2, 6, 11, 14, dtype=torch.float64)

    def pair(x: torch.Tensor, pair: nn.Sequential, d: int) -> torch.Tensor:
        tall, wide = pair[0], pair[2]
        x = F.relu(F.conv2d(x, tall.weight, tall.bias, padding=(d, 0), dilation=(d, 1)))  # type: ignore[arg-type]
        return F.conv2d(x, wide.weight, wide.bias, padding=(0, d), dilation=(1, d))  # type: ignore[arg-type]

    def norm_of(x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
        mean, var = norm.running_mean.view(1, -1, 1, 1), norm.running_var.view(1, -1, 1, 1)  # type: ignore[union-attr]
        return (x - mean) / (var + 1e-3).sqrt()

    inner = F.relu(norm_of(pair(x, block.first, 1), block.norm1))
    want = F.relu(x + norm_of(pair(inner, block.second, dilation), block.norm2))
    torch.testing.assert_close(block(x), want)


def test_down_is_convolution_beside_pooling() -> None:
    """The convolution's channels come first; at odd sizes both round up."""
    torch.manual_seed(0)
    block = down(3, 16).double().eval()
    x = torch.randn(1, 3, 13, 18, dtype=torch.float64)
    conv = block[0].conv  # type: ignore[union-attr]
    made = F.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)  # type: ignore[arg-type, union-attr]
    pooled = F.max_pool2d(F.pad(x, (0, 0, 0, 1), value=-torch.inf), 2)
    want = F.relu(torch.cat([made, pooled], 1) / (1 + 1e-3) ** 0.5)
    torch.testing.assert_close(block(x), want)
    assert want.shape == (1, 16, 7, 9)


def test_decoder_cuts_at_the_bottom_and_right() -> None:
    """At 45x67 the maps have 23x34, 12x17 and 6x9; doubled they are 12x18, 24x34 and 46x68."""
    torch.manual_seed(0)
    network = ERFNet(5).eval()
    x = torch.randn(1, 3, 45, 67)
    with torch.no_grad():
        out = network.stage3(network.down3(network.stage2(network.down2(network.down1(x)))))
        assert out.shape == (1, 128, 6, 9)
        out = network.decode2(network.up2(out)[..., :12, :17])
        out = network.decode1(network.up1(out)[..., :23, :34])
        torch.testing.assert_close(network(x), network.classifier(out)[..., :45, :67])


def class_weights(name: str, data: str) -> list[float]:
    weights: list[float] = compose(name, data=data)["model"]["supervision"]["main"]["loss"]["class_weight"]
    return weights


@pytest.mark.parametrize(("data", "void"), [("cityscapes", 0.1146), ("camvid", 0.0395)])
def test_class_weights_of_the_configs_belong_together(data: str, void: float) -> None:
    """1 / ln(offset + f): the frequencies behind ERFNet's list make those of ENet and LinkNet, too."""
    lists = {name: class_weights(name, data) for name in ("erfnet", "espnet", "espnet_c", "enet", "linknet")}
    assert lists["espnet"] == lists["espnet_c"] == lists["erfnet"]
    frequencies = [math.exp(1 / weight) - 1.10 for weight in lists["erfnet"]]
    assert sum(frequencies) == pytest.approx(1 - void, abs=5e-4)
    assert lists["erfnet"] == pytest.approx(inverse_log_weights([*frequencies, void], 1.10)[:-1], rel=1e-3)
    assert lists["enet"] == pytest.approx([1 / math.log(1.02 + f) for f in frequencies], rel=5e-3)
    highest = max(frequencies)
    assert lists["linknet"] == pytest.approx([1 / math.log(1.02 + f / highest) for f in frequencies], rel=5e-3)


def test_published_class_weights() -> None:
    """ERFNet's as its authors print them; CGNet's of the same frequencies relative to all but void."""
    assert class_weights("erfnet", "cityscapes") == pytest.approx(PRINTED, rel=1e-4)
    pixels = [math.exp(1 / weight) - 1.10 for weight in PRINTED]
    want = [1 / math.log(1.10 + n / sum(pixels)) for n in pixels]
    assert class_weights("cgnet", "cityscapes") == pytest.approx(want, abs=1e-4)


def test_class_weights_are_counted_on_camvid() -> None:
    every = [1 / math.log(1.10 + n / sum(CAMVID_PIXELS)) for n in CAMVID_PIXELS[:-1]]
    known = [1 / math.log(1.10 + n / sum(CAMVID_PIXELS[:-1])) for n in CAMVID_PIXELS[:-1]]
    assert class_weights("erfnet", "camvid") == pytest.approx(every, rel=1e-4)
    assert class_weights("dabnet", "camvid") == class_weights("erfnet", "camvid")
    assert class_weights("cgnet", "camvid") == pytest.approx(known, abs=6e-5)


def test_pixels_of_camvids_training_labels(camvid_root: Path) -> None:
    files = sorted((camvid_root / "labels" / "train").glob("*.png"))
    counts = sum(np.bincount(np.asarray(Image.open(file)).ravel(), minlength=256) for file in files)
    assert (*counts[:11], counts[255]) == CAMVID_PIXELS
    assert counts.sum() == sum(CAMVID_PIXELS) == 367 * 480 * 360
