"""The trunk against torchvision's ResNet, whose weights it takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.fanet import FANet18
from segkd.models.resnet import DEPTHS, ResNetTrunk, imagenet_weights, load_trunk
from segkd.models.swiftnet import LEVELS, SwiftNetRN18, SwiftNetRN18Pyramid


def library(arch: str) -> nn.Module:
    """torchvision's network with random statistics, in float64."""
    torch.manual_seed(0)
    network: nn.Module = torchvision.models.get_model(arch, weights=None).double().eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
            layer.bias.data.normal_(0, 0.1)
    return network


def maps_of(network: nn.Module, x: Tensor) -> list[Tensor]:
    maps = []
    x = network.maxpool(F.relu(network.bn1(network.conv1(x))))  # type: ignore[operator]
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = layer(x)  # type: ignore[operator]
        maps.append(x)
    return maps


def tensors(network: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}


@pytest.mark.parametrize("arch", ["resnet18", "resnet34"])
@pytest.mark.parametrize("presum", [False, True])
def test_trunk_is_torchvisions(arch: str, presum: bool) -> None:
    theirs = library(arch)
    trunk = ResNetTrunk(DEPTHS[arch], presum=presum).double().eval()
    load_trunk(trunk, tensors(theirs))
    x = torch.randn(1, 3, 45, 67, dtype=torch.float64)
    found = trunk(x)
    assert [bool((y < 0).any()) for y in found] == [presum] * 4
    for ours, want in zip(found, maps_of(theirs, x), strict=True):
        torch.testing.assert_close(F.relu(ours), want)


def test_every_level_of_the_pyramids_trunk_starts_as_torchvisions() -> None:
    theirs = library("resnet18")
    trunk = SwiftNetRN18Pyramid(5).trunk.double().eval()
    trunk.load_imagenet(tensors(theirs))
    x = torch.randn(1, 3, 45, 67, dtype=torch.float64)
    sums: list[Tensor] = []
    for project in trunk.project:
        project.register_forward_pre_hook(lambda m, given: sums.append(given[0]))
    for level in range(LEVELS):
        sums.clear()
        trunk(x, level)
        for ours, want in zip(sums, maps_of(theirs, x), strict=True):
            torch.testing.assert_close(F.relu(ours), want)


def test_a_tensor_without_its_place_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="nowhere"):
        load_trunk(ResNetTrunk(DEPTHS["resnet18"]), {"nowhere.weight": torch.zeros(1)})


@pytest.mark.parametrize("network", [FANet18, SwiftNetRN18, SwiftNetRN18Pyramid])
def test_pretrained_weights_are_in_the_network(
    network: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = library("resnet18").float()
    for module in ("fanet", "swiftnet"):
        monkeypatch.setattr(f"segkd.models.{module}.imagenet_weights", lambda arch, source: tensors(theirs))
    state = network(5, pretrained=True).state_dict()
    deepest = theirs.layer4[1].conv2.weight  # type: ignore[index, union-attr]
    assert any(value.shape == deepest.shape and torch.equal(value, deepest) for value in state.values())


@pytest.mark.parametrize(("network", "stride"), [(FANet18, 64), (SwiftNetRN18, 32), (SwiftNetRN18Pyramid, 128)])
def test_one_small_sample_is_refused_in_training(network: Callable[..., nn.Module], stride: int) -> None:
    built = network(5)
    small, large = torch.randn(1, 3, stride, stride), torch.randn(1, 3, stride, stride + 1)
    with pytest.raises(UserError, match=rf"cannot train with batch size 1 on {stride}x{stride}: "):
        built(small)
    assert built(large).shape == (1, 5, stride, stride + 1)
    assert built(torch.cat([small, small])).shape == (2, 5, stride, stride)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert built(small).shape == built.eval()(small).shape == (1, 5, stride, stride)


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(UserError, match=r"cannot fetch torchvision's ImageNet weights of resnet18 .*weights=\.\.\."):
        imagenet_weights("resnet18")
