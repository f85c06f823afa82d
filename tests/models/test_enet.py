"""ENet against the shapes and cost of its port, plain forms of its bottlenecks, and torch's own unpooling."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.enet import Bottleneck, Down, ENet, Style, Up, unpooled

NAME = "ENet[davidtvs]"
AUTHORS = Style(port=False, act="prelu", dropout=0.1)
PORT = AUTHORS._replace(port=True)


@pytest.mark.parametrize("upsampling", ["unpool", "bilinear"])
def test_port_is_the_published_one(upsampling: str) -> None:
    network = on_meta(lambda: ENet(num_classes=19, variant="port", upsampling=upsampling))
    assert difference(network, NAME) == (Counter(), Counter())
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[NAME]["gmacs"]["512x1024"], rel=1e-3)


def shapes_of_the_authors(classes: int) -> Counter[tuple[int, ...]]:
    """What encoder.lua and decoder.lua of e-lab/ENet-training hold, block by block: shapes of all parameters."""
    shapes: list[tuple[int, ...]] = []

    def norm(c: int, slope: bool = False) -> None:
        shapes.extend([(c,)] * (3 if slope else 2))

    def bottleneck(
        cin: int, cout: int, kernel: str = "3x3", down: bool = False, up: bool = False, act: bool = True
    ) -> None:
        w = cout // 4
        shapes.append((w, cin, 2, 2) if down else (w, cin, 1, 1))
        norm(w, act)
        if kernel == "asymmetric":
            shapes.extend([(w, w, 1, 5), (w, w, 5, 1), (w,)])
        else:
            shapes.extend([(w, w, 3, 3), (w,)])
        norm(w, act)
        shapes.append((cout, w, 1, 1))
        norm(cout, act)  # with the slope of the PReLU after the sum
        if up:
            shapes.append((cout, cin, 1, 1))
            norm(cout)

    shapes.extend([(13, 3, 3, 3), (13,)])
    norm(16, slope=True)
    bottleneck(16, 64, down=True)
    for _ in range(4):
        bottleneck(64, 64)
    bottleneck(64, 128, down=True)
    for k in range(16):
        bottleneck(128, 128, "asymmetric" if k % 4 == 2 else "3x3")
    bottleneck(128, 64, up=True, act=False)
    bottleneck(64, 64, act=False)
    bottleneck(64, 64, act=False)
    bottleneck(64, 16, up=True, act=False)
    bottleneck(16, 16, act=False)
    shapes.extend([(16, classes, 2, 2), (classes,)])
    return Counter(shapes)


@pytest.mark.parametrize("classes", [19, 11])
def test_it_is_the_authors_network(classes: int) -> None:
    network = on_meta(lambda: ENet(num_classes=classes))
    assert Counter(tuple(p.shape) for p in network.parameters()) == shapes_of_the_authors(classes)
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    if classes == 19:
        assert sum(p.numel() for p in network.parameters()) == 364_311


@pytest.mark.parametrize("classes", [5, 40])
def test_classifier_is_drawn_by_its_inputs(classes: int) -> None:
    """Uniform up to 1 / sqrt(2 * 2 * 16), as in Torch 7, whatever the classes; the other transposed ones are square."""
    torch.manual_seed(0)
    network = ENet(classes)
    layer = network.classifier
    assert isinstance(layer, nn.ConvTranspose2d)
    assert 0.12 < layer.weight.abs().max() <= 1 / 8
    assert layer.weight.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.05)
    assert 0.05 < layer.bias.abs().max() <= 1 / 8  # type: ignore[union-attr]
    others = [m for m in network.modules() if isinstance(m, nn.ConvTranspose2d) and m is not layer]
    assert len(others) == 2
    for other in others:
        assert other.in_channels == other.out_channels
        assert other.weight.abs().max().item() == pytest.approx((9 * other.in_channels) ** -0.5, rel=0.05)


def seeded(block: nn.Module) -> nn.Module:
    """In float64 and eval, with BatchNorms and slopes that do something."""
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
        if isinstance(layer, nn.PReLU):
            layer.weight.data.uniform_(-0.5, 0.5)
    return block.double().eval()


def plain(x: Tensor, layers: nn.Sequential, **by_index: dict[str, int]) -> Tensor:
    """The layers written out: convolution (padded to keep the size unless told), BatchNorm, PReLU or ReLU."""
    for k, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            how = by_index.get(f"conv{k}", {"padding": 0})
            x = F.conv2d(x, layer.weight, layer.bias, **how)  # type: ignore[arg-type]
        elif isinstance(layer, nn.BatchNorm2d):
            mean, var = layer.running_mean, layer.running_var
            x = F.batch_norm(x, mean, var, layer.weight, layer.bias, eps=layer.eps)  # type: ignore[arg-type]
        elif isinstance(layer, nn.PReLU):
            x = slope(x, layer)
    return x


def slope(x: Tensor, layer: nn.Module) -> Tensor:
    weight = layer.weight.view(1, -1, 1, 1)  # type: ignore[operator, union-attr]
    return torch.where(x > 0, x, weight * x)


@pytest.mark.parametrize(("style", "steps"), [(AUTHORS, 9), (PORT, 10)])
@pytest.mark.parametrize("dilation", [1, 4])
def test_bottleneck_against_its_formula(style: Style, steps: int, dilation: int) -> None:
    """1x1, 3x3, 1x1 with BatchNorm each and PReLU after the first two (port: all), the identity, PReLU."""
    torch.manual_seed(0)
    block = seeded(Bottleneck(16, style, dilation))
    x = torch.randn(2, 16, 11, 14, dtype=torch.float64)
    extension = block.extension
    assert isinstance(extension, nn.Sequential)
    assert len(extension) == steps
    inner = plain(x, extension, conv3=dict(padding=dilation, dilation=dilation))
    torch.testing.assert_close(block(x), slope(x + inner, block.act))  # type: ignore[arg-type]


@pytest.mark.parametrize(("style", "middle", "second"), [(AUTHORS, [(1, 5), (5, 1)], 4), (PORT, [(5, 1), (1, 5)], 6)])
def test_asymmetric_bottleneck(style: Style, middle: list[tuple[int, int]], second: int) -> None:
    """1x5 and 5x1 with nothing between; in the port 5x1, BatchNorm, PReLU, 1x5."""
    torch.manual_seed(0)
    block = seeded(Bottleneck(16, style, asymmetric=True))
    x = torch.randn(1, 16, 9, 12, dtype=torch.float64)
    extension = block.extension
    assert isinstance(extension, nn.Sequential)
    kernels = [layer.kernel_size for layer in extension if isinstance(layer, nn.Conv2d)]
    assert kernels == [(1, 1), *middle, (1, 1)]
    pads = [(high // 2, wide // 2) for high, wide in middle]
    inner = plain(x, extension, conv3={"padding": pads[0]}, **{f"conv{second}": {"padding": pads[1]}})  # type: ignore[arg-type, dict-item]
    torch.testing.assert_close(block(x), slope(x + inner, block.act))  # type: ignore[arg-type]


def test_downsampling_against_its_formula() -> None:
    """At an odd size the convolution sees a row of zeros where the pooling rounds up."""
    torch.manual_seed(0)
    block = seeded(Down(16, 24, AUTHORS))
    x = torch.randn(1, 16, 9, 12, dtype=torch.float64)
    out, places = block(x)
    extension = block.extension
    assert isinstance(extension, nn.Sequential)
    inner = plain(F.pad(x, (0, 0, 0, 1)), extension, conv0=dict(stride=2), conv3=dict(padding=1))
    pooled = F.max_pool2d(x, 2, ceil_mode=True)
    main = torch.cat([pooled, torch.zeros(1, 8, 5, 6, dtype=torch.float64)], 1)
    torch.testing.assert_close(out, slope(main + inner, block.act))  # type: ignore[arg-type]
    torch.testing.assert_close(x.flatten(2).gather(2, places.flatten(2)), pooled.flatten(2))


@pytest.mark.parametrize("size", [(8, 12), (9, 13)])
def test_unpooling_is_torchs(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    pooled, places = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    want = F.max_unpool2d(pooled, places, 2, output_size=size)
    assert torch.equal(unpooled(pooled, places, x), want)
    kept = want != 0
    assert torch.equal(want[kept], x[kept])


@pytest.mark.parametrize("unpool", [True, False])
def test_upsampling_against_its_formula(unpool: bool) -> None:
    torch.manual_seed(0)
    block = seeded(Up(16, 8, AUTHORS._replace(act="relu"), unpool))
    like = torch.randn(1, 8, 9, 12, dtype=torch.float64)
    places = F.max_pool2d(like, 2, ceil_mode=True, return_indices=True)[1]
    x = torch.randn(1, 16, 5, 6, dtype=torch.float64)
    main = plain(x, block.main)  # type: ignore[arg-type]
    if unpool:
        main = F.max_unpool2d(main, places, 2, output_size=(9, 12))
    else:
        main = F.interpolate(main, size=(9, 12), mode="bilinear", align_corners=False)
    large = block.enlarge
    assert isinstance(large, nn.Sequential)
    inner = F.relu(plain(x, block.reduce))  # type: ignore[arg-type]
    weight, bias = large[0].weight, large[0].bias
    inner = F.conv_transpose2d(inner, weight, bias, stride=2, padding=1, output_padding=1)  # type: ignore[arg-type]
    inner = F.relu(plain(inner, large[1:]))[..., :9, :12]
    want = F.relu(main + plain(inner, block.expand))  # type: ignore[arg-type]
    torch.testing.assert_close(block(x, places, like), want)


def test_order_of_the_bottlenecks_and_dropouts() -> None:
    network = ENet(5)
    for stage in (network.stage2, network.stage3):
        middle = [block.extension[3] for block in stage]  # type: ignore[union-attr, index]
        assert [(c.kernel_size, c.dilation) for c in middle] == [
            ((3, 3), (1, 1)), ((3, 3), (2, 2)), ((1, 5), (1, 1)), ((3, 3), (4, 4)),
            ((3, 3), (1, 1)), ((3, 3), (8, 8)), ((1, 5), (1, 1)), ((3, 3), (16, 16)),
        ]  # fmt: skip
    rates = [m.p for m in network.modules() if isinstance(m, nn.Dropout2d)]
    assert rates == [0.01] * 5 + [0.1] * (1 + 16) + [0.0] * (1 + 2 + 1 + 1)
    assert not any(isinstance(m, nn.PReLU) for m in (*network.up4.modules(), *network.stage5.modules()))


def test_unpooled_and_bilinear_take_the_same_weights() -> None:
    unpooling, smooth = ENet(5).eval(), ENet(5, upsampling="bilinear").eval()
    smooth.load_state_dict(unpooling.state_dict())
    x = torch.randn(1, 3, 32, 40)
    with torch.no_grad():
        assert not torch.allclose(unpooling(x), smooth(x))


@pytest.mark.parametrize(("what", "known"), [("upsampling", "unpool"), ("variant", "authors")])
def test_unknown_options(what: str, known: str) -> None:
    with pytest.raises(UserError, match=f"no {what} '{known}x'.*'{known}'"):
        ENet(5, **{what: f"{known}x"})  # type: ignore[arg-type]
