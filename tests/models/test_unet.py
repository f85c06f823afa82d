"""U-Net against its paper, layer by layer and in a plain form, and its port against shapes and cost of that code."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.unet import PortUp, UNet, Up, double, draw_weights

NAME = "UNet[EffSegNets]"
#: of the paper's figure 1, from the image to the logits: kernel, inputs, outputs, stride of the result
LAYERS = [
    ("3x3", 3, 64, 1), ("3x3", 64, 64, 1),
    ("3x3", 64, 128, 2), ("3x3", 128, 128, 2),
    ("3x3", 128, 256, 4), ("3x3", 256, 256, 4),
    ("3x3", 256, 512, 8), ("3x3", 512, 512, 8),
    ("3x3", 512, 1024, 16), ("3x3", 1024, 1024, 16),
    ("up", 1024, 512, 8), ("3x3", 1024, 512, 8), ("3x3", 512, 512, 8),
    ("up", 512, 256, 4), ("3x3", 512, 256, 4), ("3x3", 256, 256, 4),
    ("up", 256, 128, 2), ("3x3", 256, 128, 2), ("3x3", 128, 128, 2),
    ("up", 128, 64, 1), ("3x3", 128, 64, 1), ("3x3", 64, 64, 1),
]  # fmt: skip


def layers(classes: int) -> list[tuple[str, int, int, int]]:
    return [*LAYERS, ("1x1", 64, classes, 1)]


def shapes_of_the_paper(classes: int) -> Counter[tuple[int, ...]]:
    """A weight and a bias of each convolution; a transposed one has its inputs first."""
    shapes: list[tuple[int, ...]] = []
    for kernel, cin, cout, _ in layers(classes):
        weight = {"3x3": (cout, cin, 3, 3), "up": (cin, cout, 2, 2), "1x1": (cout, cin, 1, 1)}[kernel]
        shapes += [weight, (cout,)]
    return Counter(shapes)


@pytest.mark.parametrize(("classes", "parameters"), [(19, 31_032_915), (11, 31_032_395)])
def test_it_is_the_papers_network(classes: int, parameters: int) -> None:
    network = on_meta(lambda: UNet(num_classes=classes))
    assert Counter(tuple(p.shape) for p in network.parameters()) == shapes_of_the_paper(classes)
    assert sum(p.numel() for p in network.parameters()) == parameters
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23  # as the paper counts them, section 2


def test_cost_against_the_closed_form() -> None:
    """Each output of a 3x3 has 9 products per input channel; of an up-convolution and of the 1x1, 1."""
    network = on_meta(lambda: UNet(num_classes=19))
    pixels = 512 * 1024
    macs = sum((9 if kernel == "3x3" else 1) * cin * cout * pixels // s**2 for kernel, cin, cout, s in layers(19))
    assert macs == 385_943_076_864
    assert gmacs(network, 512, 1024) == pytest.approx(macs / 1e9, rel=1e-12)


def plain(network: UNet, x: Tensor) -> Tensor:
    """The paper's figure 1 on the network's tensors, in the order of the way through it, without dropout."""
    tensors = iter(network.parameters())

    def two(x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.conv2d(x, next(tensors), next(tensors), padding=1).clamp_min(0)
        return x

    maps = [two(x)]
    for _ in range(4):
        maps.append(two(F.max_pool2d(maps[-1], 2, ceil_mode=True)))
    out = maps.pop()
    while maps:
        skip = maps.pop()
        weight, bias = next(tensors), next(tensors)
        # A pixel becomes 2x2 pixels, each from its own 1x1 convolution.
        each = torch.einsum("nihw,iouv->nohuwv", out, weight).reshape(len(x), -1, 2 * out.shape[2], 2 * out.shape[3])
        coarse = (each + bias.view(1, -1, 1, 1)).clamp_min(0)[..., : skip.shape[2], : skip.shape[3]]
        out = two(torch.cat([coarse, skip], 1))
    logits = F.conv2d(out, next(tensors), next(tensors))
    assert next(tensors, None) is None
    return logits


@pytest.mark.parametrize("size", [(32, 48), (37, 51)])
def test_values_against_a_plain_form(size: tuple[int, int]) -> None:
    """In float64, with biases that do something; also where no level's size is even."""
    torch.manual_seed(0)
    network = UNet(5).double().eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    x = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        got = network(x)
        assert got.shape == (1, 5, *size)
        torch.testing.assert_close(got, plain(network, x))


def test_weights_are_drawn_as_published() -> None:
    """Standard deviation sqrt(2 / N); N of an up-convolution is 4 times its outputs (its inputs, times 2)."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = [double(64, 128), Up(256, 128), nn.Conv2d(64, 200, 1)]
    for block in blocks:
        draw_weights(block)
    for module in (m for block in blocks for m in block.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            fan = module.out_channels * 4 if isinstance(module, nn.ConvTranspose2d) else module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.02)
            assert module.weight.mean().abs() < 0.05 * (2 / fan) ** 0.5
            assert not module.bias.any()  # type: ignore[union-attr]


def test_all_weights_are_drawn_so_and_activations_keep_their_size() -> None:
    """What sqrt(2 / N) is for: 22 layers later the maps are neither gone nor grown beyond all measure."""
    torch.manual_seed(0)
    network = UNet(5).eval()
    assert not any(p.any() for name, p in network.named_parameters() if name.endswith("bias"))
    with torch.no_grad():
        assert 0.1 < network(torch.randn(1, 3, 48, 64)).std() < 10
        nn.init.ones_(network.classifier.bias)  # type: ignore[arg-type]
    torch.manual_seed(1)
    port = UNet(5, variant="port")
    assert port.classifier.bias.any()  # type: ignore[operator, union-attr]


def test_dropout_at_the_two_coarsest_levels_of_the_way_down() -> None:
    """In training half of the values, doubling the others, before pooling, skip and up-convolution; none in eval."""
    torch.manual_seed(0)
    network = UNet(5).train()
    seen: list[tuple[Tensor, Tensor]] = []
    network.dropout.register_forward_hook(lambda m, args, out: seen.append((args[0].clone(), out.clone())))
    skips: list[Tensor] = []
    network.up4.register_forward_hook(lambda m, args, out: skips.extend(args))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        first, second = network(x), network(x)
    assert not torch.equal(first, second)
    assert [tuple(out.shape[1:]) for _, out in seen] == 2 * [(512, 8, 12), (1024, 4, 6)]
    for before, after in seen:
        kept = after[before > 0] != 0
        assert kept.float().mean().item() == pytest.approx(0.5, abs=0.05)
        torch.testing.assert_close(after, torch.where(after != 0, 2 * before, 0.0))
    assert torch.equal(skips[0], seen[1][1])  # what goes up
    assert torch.equal(skips[1], seen[0][1])  # and its skip
    network.eval()
    with torch.no_grad():
        assert torch.equal(network(x), network(x))


def test_the_port_has_no_dropout() -> None:
    assert UNet(5, variant="port").train().dropout.p == 0  # type: ignore[operator]


def test_bilinear_port_is_the_published_one_without_its_idle_layers() -> None:
    """That code builds the four transposed convolutions in either case, and runs none of them here."""
    network = on_meta(lambda: UNet(num_classes=19, variant="port"))
    idle = Counter({(c, c, 2, 2): 1 for c in (64, 128, 256, 512)} | {(c,): 1 for c in (64, 128, 256, 512)})
    assert difference(network, NAME) == (Counter(), idle)
    assert sum(p.numel() for p in network.parameters()) == 13_396_499
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[NAME]["gmacs"]["512x1024"], rel=1e-3)


def test_transposed_port_uses_them() -> None:
    network = on_meta(lambda: UNet(num_classes=19, variant="port", upsampling="transposed"))
    assert difference(network, NAME) == (Counter(), Counter())
    # 2x2 transposed convolutions C -> C on maps that are 32x64 and C = 512 at the bottom
    extra = sum(4 * c * c * height * 2 * height for c, height in ((512, 32), (256, 64), (128, 128), (64, 256)))
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[NAME]["gmacs"]["512x1024"] + extra / 1e9, rel=1e-3)


@pytest.mark.parametrize("transposed", [False, True])
def test_ports_way_up_against_a_plain_form(transposed: bool) -> None:
    """The skip first, then the coarse map with aligned corners, or doubled and cut; in float64."""
    torch.manual_seed(0)
    block = PortUp(4, 6, transposed).double().eval()
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


@pytest.mark.parametrize(("variant", "bottom"), [("paper", 1024), ("port", 512)])
def test_levels_and_skips(variant: str, bottom: int) -> None:
    """Each level's map meets that of the same size on the way up; odd sizes round up."""
    torch.manual_seed(0)
    network = UNet(5, variant=variant).eval()
    x = torch.randn(1, 3, 37, 50)
    with torch.no_grad():
        maps, current = [], x
        for k, down in enumerate((network.down1, network.down2, network.down3, network.down4, network.down5)):
            current = down(current if not k else F.max_pool2d(current, 2, ceil_mode=True))
            maps.append(current)
        assert [tuple(m.shape[1:]) for m in maps] == [
            (64, 37, 50), (128, 19, 25), (256, 10, 13), (512, 5, 7), (bottom, 3, 4)
        ]  # fmt: skip
        for up, skip in zip((network.up4, network.up3, network.up2, network.up1), maps[-2::-1], strict=True):
            current = up(current, skip)
        torch.testing.assert_close(network(x), network.classifier(current))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "papr"}, r"no variant 'papr'.*'paper'"),
        ({"variant": "port", "upsampling": "bilinar"}, r"'port' has no upsampling 'bilinar'.*'bilinear'"),
        ({"upsampling": "bilinear"}, r"'paper' has no upsampling 'bilinear'.*'?transposed'?"),
    ],
)
def test_unknown_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        UNet(5, **options)  # type: ignore[arg-type]
