"""U-Net against the shapes and cost of its widespread port, and a plain form of its way up."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.unet import UNet, Up

NAME = "UNet[EffSegNets]"


def test_bilinear_is_the_published_one_without_its_idle_layers() -> None:
    """The port builds the four transposed convolutions in either case, and runs none of them here."""
    network = on_meta(lambda: UNet(num_classes=19))
    idle = Counter({(c, c, 2, 2): 1 for c in (64, 128, 256, 512)} | {(c,): 1 for c in (64, 128, 256, 512)})
    assert difference(network, NAME) == (Counter(), idle)
    assert sum(p.numel() for p in network.parameters()) == 13_396_499
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[NAME]["gmacs"]["512x1024"], rel=1e-3)


def test_transposed_uses_them() -> None:
    network = on_meta(lambda: UNet(num_classes=19, upsampling="transposed"))
    assert difference(network, NAME) == (Counter(), Counter())
    # 2x2 transposed convolutions C -> C on maps that are 32x64 and C = 512 at the bottom
    extra = sum(4 * c * c * height * 2 * height for c, height in ((512, 32), (256, 64), (128, 128), (64, 256)))
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[NAME]["gmacs"]["512x1024"] + extra / 1e9, rel=1e-3)


@pytest.mark.parametrize("transposed", [False, True])
def test_way_up_against_a_plain_form(transposed: bool) -> None:
    """The skip first, then the coarse map with aligned corners, or doubled and cut; in float64."""
    torch.manual_seed(0)
    block = Up(4, 6, transposed).double().eval()
    coarse, skip = torch.randn(1, 4, 5, 6, dtype=torch.float64), torch.randn(1, 4, 9, 12, dtype=torch.float64)
    if transposed:
        up = block.up
        assert isinstance(up, nn.ConvTranspose2d)
        large = F.conv_transpose2d(coarse, up.weight, up.bias, stride=2)[..., :9, :12]
    else:
        large = F.interpolate(coarse, size=(9, 12), mode="bilinear", align_corners=True)
        torch.testing.assert_close(large[..., ::8, ::11], coarse[..., ::4, ::5])
    want: Tensor = torch.cat([skip, large], 1)
    for conv, _, _ in block.convolve:  # type: ignore[misc]
        want = F.relu(F.conv2d(want, conv.weight, conv.bias, padding=1) / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(block(coarse, skip), want)


def test_levels_and_skips() -> None:
    """Each level's map meets that of the same size on the way up; odd sizes round up."""
    torch.manual_seed(0)
    network = UNet(5).eval()
    x = torch.randn(1, 3, 37, 50)
    with torch.no_grad():
        maps, current = [], x
        for k, down in enumerate((network.down1, network.down2, network.down3, network.down4, network.down5)):
            current = down(current if not k else F.max_pool2d(current, 2, ceil_mode=True))
            maps.append(current)
        assert [tuple(m.shape[1:]) for m in maps] == [
            (64, 37, 50), (128, 19, 25), (256, 10, 13), (512, 5, 7), (512, 3, 4)
        ]  # fmt: skip
        for up, skip in zip((network.up4, network.up3, network.up2, network.up1), maps[-2::-1], strict=True):
            current = up(current, skip)
        torch.testing.assert_close(network(x), network.classifier(current))


def test_unknown_upsampling() -> None:
    with pytest.raises(UserError, match=r"no upsampling 'bilinar'.*'bilinear'"):
        UNet(5, upsampling="bilinar")
