"""Taps against plain computations by hand, on torchvision, smp and timm ResNets and on toys with tuples and dicts."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.inspection import describe_layers
from segkd.taps import TapPath, read_taps, tap

SIZE = (2, 3, 64, 96)


def _resnet(library: str) -> tuple[nn.Module, str, str, str]:
    """A ResNet-18 with random BatchNorm statistics, the prefix of its layers, and its two activations in a block."""
    torch.manual_seed(0)
    if library == "torchvision":
        model, names = torchvision.models.resnet18(weights=None), ("", "relu#0", "relu#1")
    elif library == "smp":
        model, names = smp.Unet("resnet18", encoder_weights=None, classes=5), ("encoder.", "relu#0", "relu#1")
    else:
        model, names = timm.create_model("resnet18", pretrained=False), ("", "act1", "act2")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.weight, 0.5, 1.5)  # smp and timm start some at zero
            nn.init.normal_(module.bias)
    return model.eval(), *names


@pytest.fixture(params=["torchvision", "smp", "timm"])
def resnet(request: pytest.FixtureRequest) -> tuple[nn.Module, str, str, str]:
    return _resnet(request.param)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(1))


def _by_hand(model: nn.Module, prefix: str, x: Tensor) -> dict[str, Tensor]:
    """Stem and first block of a ResNet-18, written out without any operation in place."""
    root = model.get_submodule(prefix.rstrip("."))
    block = root.layer1[0]
    out = {"conv1": root.conv1(x)}
    out["bn1"] = root.bn1(out["conv1"])
    out["pool"] = F.max_pool2d(F.relu(out["bn1"]), 3, 2, 1)
    out["block_bn1"] = block.bn1(block.conv1(out["pool"]))
    out["act1"] = F.relu(out["block_bn1"])
    out["block_bn2"] = block.bn2(block.conv2(out["act1"]))
    out["sum"] = out["block_bn2"] + out["pool"]
    out["block"] = F.relu(out["sum"])
    return out


def _taps(prefix: str, act1: str, act2: str) -> dict[str, str]:
    """Tap -> name in ``_by_hand``."""
    block = f"{prefix}layer1.0"
    second_input = f"{block}.{act2.replace('#', '@input#') if '#' in act2 else act2 + '@input'}"
    return {
        f"{prefix}bn1": "bn1",
        f"{prefix}bn1@input": "conv1",
        f"{prefix}maxpool": "pool",
        f"{block}@input": "pool",
        f"{block}.bn1": "block_bn1",
        f"{block}.{act1}": "act1",
        f"{block}.bn2": "block_bn2",
        second_input: "sum",
        f"{block}.{act2}": "block",
        block: "block",
    }


def _hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_values_equal_a_computation_by_hand(resnet: tuple[nn.Module, str, str, str], x: Tensor) -> None:
    model, prefix, act1, act2 = resnet
    wanted, taps = _by_hand(model, prefix, x), _taps(prefix, act1, act2)
    assert any(getattr(module, "inplace", False) for module in model.modules()), "no trap: nothing is in place"
    with torch.no_grad(), tap(model, list(taps)) as features:
        model(x)
    assert list(features) == list(taps)
    for path, name in taps.items():
        torch.testing.assert_close(features[path], wanted[name], rtol=1e-5, atol=1e-5)


def test_gradients_equal_a_computation_by_hand(resnet: tuple[nn.Module, str, str, str], x: Tensor) -> None:
    model, prefix, act1, act2 = resnet
    model, x = model.double(), x.double()
    taps = _taps(prefix, act1, act2)
    weight = model.get_submodule(f"{prefix}conv1").weight
    by_hand = _by_hand(model, prefix, x)
    logits = model(x)
    reference = logits.square().mean() + sum(by_hand[name].square().mean() for name in taps.values())
    (wanted,) = torch.autograd.grad(reference, weight)
    with tap(model, list(taps)) as features:
        logits = model(x)
    loss = logits.square().mean() + sum(feature.square().mean() for feature in features.values())
    (got,) = torch.autograd.grad(loss, weight)
    assert wanted.abs().max() > 0
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


def test_the_network_computes_the_same_under_taps(resnet: tuple[nn.Module, str, str, str], x: Tensor) -> None:
    model, prefix, act1, act2 = resnet
    plain = model(x)
    with tap(model, ["", *_taps(prefix, act1, act2)]) as features:
        tapped = model(x)
    assert torch.equal(plain, tapped)
    assert torch.equal(features[""], plain)
    tapped.detach().zero_()
    assert torch.equal(features[""], plain)


class Aliasing(nn.Module):
    """Relies on its in-place ReLU to change the skip connection too: a tap must not separate the two."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.skip = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = x * 1
        kept = self.skip(y)
        self.relu(y)
        return kept + y


def test_a_tap_keeps_aliases_of_the_network_together() -> None:
    x = torch.tensor([-1.0, 2.0])
    model = Aliasing()
    with tap(model, ["relu@input", "relu", "skip"]) as features:
        out = model(x)
    assert torch.equal(out, torch.tensor([0.0, 4.0]))
    assert torch.equal(features["relu@input"], x)
    assert torch.equal(features["skip"], x)
    assert torch.equal(features["relu"], x.relu())


def test_one_layer_tapped_several_ways(x: Tensor) -> None:
    model = torchvision.models.resnet18(weights=None).eval()
    taps = ["layer2", "layer2#0", "layer2#-1", "layer2@input", "layer2@input#0", "layer3@input", "layer2"]
    features = read_taps(model, taps, x)
    assert len(features) == 6
    for same in ("layer2#0", "layer2#-1", "layer3@input"):
        assert torch.equal(features["layer2"], features[same])
    assert torch.equal(features["layer2@input"], features["layer2@input#0"])
    assert features["layer2@input"].shape == (2, 64, 16, 24)


def test_a_new_forward_replaces_the_last_one(x: Tensor) -> None:
    model = torchvision.models.resnet18(weights=None).eval()
    with torch.no_grad(), tap(model, ["layer1"]) as features:
        model(x)
        first = features["layer1"]
        model(2 * x)
        second = features["layer1"]
    assert not torch.equal(first, second)
    assert torch.equal(features["layer1"], second)
    assert torch.equal(second, read_taps(model, ["layer1"], 2 * x)["layer1"])


def test_hooks_live_inside_the_with_only(x: Tensor) -> None:
    model = torchvision.models.resnet18(weights=None).eval()
    with tap(model, ["layer1", "layer2@input"]) as features:
        assert _hooks(model) == 3
        model(x)
    assert _hooks(model) == 0
    before = features["layer1"]
    model(2 * x)
    assert features["layer1"] is before


def test_hooks_are_gone_after_exceptions(x: Tensor) -> None:
    model = torchvision.models.resnet18(weights=None).train()
    with pytest.raises(RuntimeError), tap(model, ["layer1"]):
        model(x[:, :2])
    with pytest.raises(UserError), tap(model, ["layer1", "layer5"]):
        pass
    with pytest.raises(RuntimeError):
        read_taps(model, ["layer1"], x[:, :2])
    with pytest.raises(RuntimeError):
        describe_layers(model, x[:, :2])
    assert _hooks(model) == 0
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("train", [False, True])
def test_channels_last_autocast_and_train(x: Tensor, train: bool) -> None:
    model = torchvision.models.resnet18(weights=None).train(train).to(memory_format=torch.channels_last)
    twin = deepcopy(model)
    x = x.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16), tap(model, ["layer1.0.conv1"]) as features:
        model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        stem = twin.maxpool(twin.relu(twin.bn1(twin.conv1(x))))
        wanted = twin.layer1[0].conv1(stem)
    got = features["layer1.0.conv1"]
    assert got.dtype == torch.bfloat16
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(got, wanted)
    assert got.requires_grad


class Heads(nn.Module):
    """Gives a tuple or a dict."""

    def __init__(self, pack: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.pack = pack

    def forward(self, a: Tensor, b: Tensor | None = None) -> Any:
        return self.pack(a, a[:, :1] if b is None else b)


class Toy(nn.Module):
    """A trunk run at three scales, heads with several outputs, and layers that never run."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.pair = Heads(lambda a, b: (a, b))
        self.named = Heads(lambda a, b: {"out": a, "aux": b, "count": 2})
        self.listed = Heads(lambda a, b: [a])
        self.nothing = Heads(lambda a, b: None)
        self.unused = nn.Conv2d(3, 3, 1)
        self.stages = nn.ModuleList([nn.Identity(), nn.Identity()])

    def forward(self, x: Tensor) -> Tensor:
        scales = [self.trunk(F.interpolate(x, size=size, mode="area")) for size in ((32, 48), (16, 24), (8, 12))]
        a, _ = self.pair(scales[0])
        out: Tensor = self.named(a, b=scales[0] * 2)["out"]
        self.nothing(self.stages[0](self.listed(out)[0]))
        return out


@pytest.fixture
def toy() -> Toy:
    torch.manual_seed(0)
    return Toy()


def test_a_trunk_run_at_three_scales(toy: Toy, x: Tensor) -> None:
    taps = ["trunk#0", "trunk#1", "trunk#2", "trunk#-1", "trunk#-3", "trunk@input#1", "trunk.0#-2"]
    with tap(toy, taps) as features:
        toy(x)
    sizes = {path: tuple(features[path].shape[1:]) for path in taps}
    assert sizes == {
        "trunk#0": (4, 32, 48),
        "trunk#1": (4, 16, 24),
        "trunk#2": (4, 8, 12),
        "trunk#-1": (4, 8, 12),
        "trunk#-3": (4, 32, 48),
        "trunk@input#1": (3, 16, 24),
        "trunk.0#-2": (4, 16, 24),
    }
    small = F.interpolate(x, size=(16, 24), mode="area")
    torch.testing.assert_close(features["trunk@input#1"], small)
    torch.testing.assert_close(features["trunk.0#-2"], toy.trunk[0](small))
    torch.testing.assert_close(features["trunk#1"], toy.trunk(small))


def test_items_of_tuples_lists_dicts_and_arguments(toy: Toy, x: Tensor) -> None:
    taps = ["pair:0", "pair:1", "pair:-1", "named:aux", "listed:0", "named:0@input", "named:b@input", "pair@input"]
    features = read_taps(toy, taps, x)
    trunk = toy.trunk(F.interpolate(x, size=(32, 48), mode="area"))
    for path in ("pair:0", "listed:0", "named:0@input", "pair@input"):
        torch.testing.assert_close(features[path], trunk)
    for path in ("pair:1", "pair:-1"):
        torch.testing.assert_close(features[path], trunk[:, :1])
    for path in ("named:aux", "named:b@input"):
        torch.testing.assert_close(features[path], 2 * trunk)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("trunk", ["'trunk' (Sequential) ran 3 times", "'trunk#0' (2, 4, 32, 48)", "'trunk#2' (2, 4, 8, 12)"]),
        ("trunk@input", ["ran 3 times", "'trunk@input#1' (2, 3, 16, 24)"]),
        ("trunk#3", ["ran 3 times", "no call #3", "'trunk#2'"]),
        ("trunk#-4", ["no call #-4"]),
        ("pair#1", ["ran once", "no call #1"]),
        ("pair", ["'pair' (Heads) gives several things", "'pair:0' (2, 4, 32, 48)", "'pair:1' (2, 1, 32, 48)"]),
        ("pair:2", ["no tensor '2'", "'pair:0'"]),
        ("pair:-3", ["no tensor '-3'"]),
        ("named", ["'named:out' (2, 4, 32, 48)", "'named:aux'"]),
        ("named:count", ["no tensor 'count'", "'named:aux'"]),
        ("named@input", ["takes several things", "'named:0@input'", "'named:b@input'"]),
        ("nothing", ["gives no tensor"]),
        ("trunk.0:1#0", ["gives one tensor (2, 4, 32, 48)", "leave out ':1'"]),
        ("unused", ["'unused' (Conv2d) never ran"]),
        ("stages", ["'stages' (ModuleList) only holds layers", "stages.0, stages.1"]),
    ],
)
def test_what_cannot_be_read_says_what_would_be_right(toy: Toy, x: Tensor, path: str, words: list[str]) -> None:
    with tap(toy, ["pair:0", path]) as features:
        toy(x)
    assert features["pair:0"].shape == (2, 4, 32, 48)
    with pytest.raises(UserError) as caught:
        features[path]
    text = str(caught.value)
    assert text.startswith(f"tap {path!r}: ")
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("path", ["trunk@inputs", "trunk#one", "trunk#", "trunk:", "pair@input:0", "trunk#0#1", "a b"])
def test_a_malformed_tap_shows_the_grammar(toy: Toy, path: str) -> None:
    with pytest.raises(UserError, match=r"path\[:item\]\[@input\]\[#call\]"), tap(toy, [path]):
        pass


@pytest.mark.parametrize(
    ("path", "near"), [("trunc", "'trunk'"), ("trunk.2", "'trunk.1'"), ("pear:0", "'pair'"), ("forward", "there is: ")]
)
def test_a_misspelt_layer_names_the_nearest(toy: Toy, path: str, near: str) -> None:
    with pytest.raises(UserError, match="Toy has no layer") as caught, tap(toy, [path]):
        pass
    assert near in str(caught.value)


def test_reading_before_any_forward(toy: Toy) -> None:
    with tap(toy, ["trunk"]) as features:
        pass
    with pytest.raises(UserError, match="no forward pass"):
        features["trunk"]


def test_features_are_a_mapping_of_what_was_asked(toy: Toy) -> None:
    with tap(toy, ["unused", "pair:0", "unused"]) as features:
        assert list(features) == ["unused", "pair:0"]
        assert "pair" not in features
        with pytest.raises(KeyError, match="'pair' is not tapped"):
            features["pair"]
    with pytest.raises(UserError, match="list of paths"), tap(toy, "trunk"):
        pass


@pytest.mark.parametrize("text", ["", "a.b", "a:0", "a:aux@input", "a@input#-1", "a:0@input#2", ":out", "#0"])
def test_a_tap_path_is_printed_as_it_is_written(text: str) -> None:
    assert str(TapPath.parse(text)) == text


def test_an_ambiguous_tap_and_other_calls_hold_no_memory(toy: Toy, x: Tensor) -> None:
    with tap(toy, ["trunk", "trunk#1", "trunk#-2"]) as features:
        toy(x)
    kept = {path: sorted(recorder.kept) for path, recorder in features._recorders.items()}
    assert kept == {"trunk": [], "trunk#1": [1], "trunk#-2": [1, 2]}


def test_read_taps_leaves_the_model_as_it_was(x: Tensor) -> None:
    model = torchvision.models.resnet18(weights=None).train()
    model.layer2.eval()
    flags = [module.training for module in model.modules()]
    state = deepcopy(model.state_dict())
    features = read_taps(model, ["layer4"], x)
    describe_layers(model, x)
    assert not features["layer4"].requires_grad
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("library", ["torchvision", "smp", "timm", "toy"])
def test_every_described_layer_can_be_tapped(library: str, toy: Toy, x: Tensor) -> None:
    model = toy if library == "toy" else _resnet(library)[0]
    layers = describe_layers(model, x)
    assert len({layer.path for layer in layers}) == len(layers) > 8
    features = read_taps(model, [layer.path for layer in layers], x)
    for layer in layers:
        assert tuple(features[layer.path].shape) == layer.shape
    assert _hooks(model) == 0


@pytest.mark.parametrize("size", [(64, 96), (75, 131), (129, 65), (360, 480)])
def test_described_channels_and_strides_are_those_the_library_states(size: tuple[int, int]) -> None:
    """timm publishes channels and reduction of its layers; sizes that no stride divides must not disturb them."""
    model = timm.create_model("resnet18", pretrained=False)
    layers = {layer.path: layer for layer in describe_layers(model, torch.randn(1, 3, *size))}
    for info in model.feature_info:
        assert (layers[info["module"]].channels, layers[info["module"]].stride) == (info["num_chs"], info["reduction"])
    assert (layers["fc"].channels, layers["fc"].stride, layers["fc"].type) == (1000, None, "Linear")
    assert list(layers)[:3] == ["", "conv1", "bn1"]


def test_described_calls_items_and_shapes(toy: Toy, x: Tensor) -> None:
    layers = {layer.path: layer for layer in describe_layers(toy, x)}
    assert [layers[f"trunk#{i}"].stride for i in range(3)] == [2, 4, 8]
    assert layers["trunk#2"].calls == 3
    assert {"pair:0", "pair:1", "named:out", "named:aux", "listed:0", "stages.0"} < set(layers)
    assert not {"unused", "nothing", "pair", "stages.1"} & set(layers)
    up = describe_layers(nn.Sequential(nn.Upsample(scale_factor=4), nn.Flatten(2)), x)
    assert (up[1].stride, up[1].channels) == (0.25, 3)
    assert (up[2].stride, up[2].channels) == (None, up[2].shape[2])
