"""LinkNet against the shapes and cost of its port and of the authors' form, torchvision's encoder, and plain forms."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torchvision
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models import linknet
from segkd.models.linknet import LinkDecoder, LinkNet

NAME = "LinkNet[EffSegNets]"


def test_port_is_the_published_one() -> None:
    network = on_meta(lambda: LinkNet(num_classes=19, variant="port"))
    assert difference(network, NAME) == (Counter(), Counter())
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[NAME]["gmacs"]["512x1024"], rel=1e-3)
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}


def test_paper_adds_the_biases_of_the_decoder() -> None:
    """992 of them, which makes the 11.5367 M parameters of the authors' Lua net."""
    network = on_meta(lambda: LinkNet(num_classes=19))
    more, less = difference(network, NAME)
    assert more == Counter({(256,): 1, (128,): 3, (64,): 4, (32,): 2, (16,): 2})
    assert not less
    assert sum(p.numel() for p in network.parameters()) == 11_536_691
    eps = {path: m.eps for path, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {path: e for path, e in eps.items() if path.startswith("head")} == {"head.0.1": 1e-5, "head.1.1": 1e-3}
    assert {e for path, e in eps.items() if path.startswith("decoder")} == {1e-3}
    assert {e for path, e in eps.items() if path.startswith("encoder")} == {1e-5}


def test_convolutions_start_as_in_the_authors_code() -> None:
    """With a deviation of sqrt(2 / (kernel height x width x outputs)), transposed ones too."""
    torch.manual_seed(0)
    network = LinkNet(num_classes=19)
    for path, outputs, kernel in (
        ("decoder4.reduce.0", 128, 1),
        ("decoder4.up.0", 128, 3),
        ("decoder3.expand.0", 128, 1),
        ("head.0.0", 32, 3),
        ("classifier", 19, 2),
    ):
        weight = network.get_parameter(f"{path}.weight")
        want = (2 / (kernel * kernel * outputs)) ** 0.5
        assert float(weight.std()) == pytest.approx(want, rel=0.05), path


@pytest.mark.parametrize(("stride", "act"), [(2, True), (2, False), (1, True)])
def test_decoder_against_its_formula(stride: int, act: bool) -> None:
    """relu(fine + relu(bn(1x1(relu(bn(transposed 3x3(relu(bn(1x1(coarse)))))))))), in float64, at an odd size."""
    torch.manual_seed(0)
    block = LinkDecoder(8, 6, stride, bias=True, act=act, eps=1e-3).double().eval()
    size = (9, 12) if stride == 2 else (5, 6)
    coarse, fine = torch.randn(1, 8, 5, 6, dtype=torch.float64), torch.randn(1, 6, *size, dtype=torch.float64)

    def rest(x: Tensor) -> Tensor:
        return F.relu(x / (1 + 1e-3) ** 0.5)

    reduce, up, expand = block.reduce[0], block.up[0], block.expand[0]
    x = rest(F.conv2d(coarse, reduce.weight, reduce.bias))  # type: ignore[arg-type]
    x = F.conv_transpose2d(x, up.weight, up.bias, stride, 1, stride - 1)  # type: ignore[arg-type]
    x = rest(x)[..., : size[0], : size[1]]
    want = fine + rest(F.conv2d(x, expand.weight, expand.bias))  # type: ignore[arg-type]
    torch.testing.assert_close(block(coarse, fine), F.relu(want) if act else want)


def test_each_decoder_adds_what_went_into_its_stage() -> None:
    """Also the first: to the output of the max pooling."""
    torch.manual_seed(0)
    network = LinkNet(5).eval()
    seen: dict[str, tuple[Tensor, ...]] = {}
    for k in (1, 2, 3, 4):
        for part in (f"encoder.layer{k}", f"decoder{k}"):
            network.get_submodule(part).register_forward_pre_hook(
                lambda module, inputs, part=part: seen.setdefault(part, inputs)
            )
    with torch.no_grad():
        assert network(torch.randn(1, 3, 69, 90)).shape == (1, 5, 69, 90)
    for k in (1, 2, 3, 4):
        assert seen[f"decoder{k}"][1] is seen[f"encoder.layer{k}"][0]


def test_pretrained_encoder_is_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    tensors = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    monkeypatch.setattr(linknet, "imagenet_weights", lambda arch, source: tensors if arch == "resnet18" else {})
    network = LinkNet(5, pretrained=True).eval()
    torch.testing.assert_close(network.preprocess.mean, torch.tensor((0.485, 0.456, 0.406)))
    torch.testing.assert_close(network.preprocess.std, torch.tensor((0.229, 0.224, 0.225)))
    encoder = network.encoder
    x = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        want = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            want = layer(want)
        torch.testing.assert_close(encoder(x)[3], want)


def test_unknown_variant() -> None:
    with pytest.raises(UserError, match=r"no variant 'papr'.*'paper'"):
        LinkNet(5, variant="papr")
