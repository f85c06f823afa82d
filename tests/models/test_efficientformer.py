"""EfficientFormers at any size: timm's own networks at 224 and at sizes built for, plain forms, gradients, export."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from segkd.deploy.onnx import export_onnx
from segkd.models.efficientformer import TokenAttention, any_size, spread_biases
from segkd.models.light_fpn import LightFPN
from segkd.models.timm import TimmModel

WIDTHS = dict(embed_dims=(8, 12, 16, 24))
#: a small network of each version, with every kind of its attention
SMALL: dict[str, dict[str, Any]] = {
    "efficientformer_l1": dict(depths=(1, 1, 1, 2), **WIDTHS),
    "efficientformerv2_s0": dict(depths=(1, 1, 2, 2), num_vit=1, mlp_ratios=2, **WIDTHS),
}


def randomised(network: nn.Module) -> nn.Module:
    """Weights with which every part of the network moves its output."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if "attention_biases" in name:
            tensor.data.normal_(0, 2, generator=generator)
        elif name.endswith(("gamma", "running_var")):
            tensor.data.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("running_mean"):
            tensor.data.normal_(0, 0.2, generator=generator)
    return network.eval()


def features(name: str, **options: Any) -> nn.Module:
    network: nn.Module = timm.create_model(name, features_only=True, **options)
    return network


def small(name: str) -> nn.Module:
    return randomised(LightFPN(3, name, decoder_channels=16, **SMALL[name]))


def resized(table: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """(heads, side * side) -> (heads, h * w), linear between the entries, the first and last kept."""
    maps = table.detach().numpy().reshape(-1, side, side)
    for axis, length in ((1, size[0]), (2, size[1])):
        at = np.linspace(0, side - 1, length) if length > 1 else np.zeros(1)
        maps = np.apply_along_axis(lambda line, at=at: np.interp(at, np.arange(side), line), axis, maps)
    return torch.from_numpy(maps).to(table.dtype).flatten(1)


@pytest.mark.parametrize("name", SMALL)
def test_native_size_and_weights_are_timms(name: str) -> None:
    torch.manual_seed(0)
    library = randomised(features(name))
    ours = any_size(features(name)).eval()
    ours.load_state_dict(library.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(library.state_dict())
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for got, wanted in zip(ours(x), library(x), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(256, 512), (64, 32)])
def test_v2_equals_the_one_built_for_the_size(size: tuple[int, int]) -> None:
    """timm's own network for ``size``, its biases being ours resized."""
    torch.manual_seed(0)
    options = SMALL["efficientformerv2_s0"]
    ours = randomised(any_size(features("efficientformerv2_s0", **options)))
    built = features("efficientformerv2_s0", img_size=size, **options).eval()
    weights = ours.state_dict()
    for key in [key for key in weights if key.endswith("attention_biases")]:
        module = built.get_submodule(key.rsplit(".", 1)[0])
        side = 14 if "downsample" in key else 7
        weights[key] = resized(weights[key], side, module.resolution)  # type: ignore[arg-type]
    built.load_state_dict(weights)
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        for got, wanted in zip(ours(x), built(x), strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("size", [(3, 5), (1, 6), (7, 7), (9, 2)])
def test_biases_against_their_definition(size: tuple[int, int], step: int) -> None:
    table = torch.randn(2, 49, dtype=torch.float64)
    height, width = size
    by_distance = resized(table, 7, size).view(2, height, width)
    expected = [
        [by_distance[:, abs(y - i), abs(x - j)] for i in range(height) for j in range(width)]
        for y in range(0, height, step)
        for x in range(0, width, step)
    ]
    got = spread_biases(table, (7, 7), size, step)
    torch.testing.assert_close(got, torch.stack([torch.stack(row) for row in expected]).permute(2, 0, 1))


def test_v1_attention_against_its_formula() -> None:
    """Softmax over all cells of q k / sqrt(d) + bias by distance, head by head, on a map that is not 7 x 7."""
    torch.manual_seed(0)
    source = timm.models.efficientformer.Attention(dim=12, key_dim=4, num_heads=2, attn_ratio=3).double()
    nn.init.normal_(source.attention_biases)
    attention = TokenAttention(source)
    x = torch.randn(2, 3, 5, 12, dtype=torch.float64)
    joint = (x.reshape(2, 15, 12) @ source.qkv.weight.T + source.qkv.bias).view(2, 15, 2, 20)
    biases = spread_biases(source.attention_biases, (7, 7), (3, 5))
    parts = []
    for head in range(2):
        query, key, value = joint[:, :, head, :4], joint[:, :, head, 4:8], joint[:, :, head, 8:]
        parts.append((query @ key.transpose(1, 2) / 2 + biases[head]).softmax(-1) @ value)
    expected = torch.cat(parts, dim=-1) @ source.proj.weight.T + source.proj.bias
    torch.testing.assert_close(attention(x), expected.view(2, 3, 5, 12))


def test_gradients_reach_the_stored_biases() -> None:
    table = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda t: spread_biases(t, (3, 3), (4, 5), 2), table)


@pytest.mark.parametrize("name", SMALL)
def test_trains_at_one_size_after_another(name: str) -> None:
    torch.manual_seed(0)
    network = LightFPN(3, name, decoder_channels=16, **SMALL[name])
    biases = {k: p for k, p in network.named_parameters() if k.endswith("attention_biases")}
    assert biases
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for size in ((50, 70), (130, 33)):
        optimizer.zero_grad()
        before = {k: p.clone() for k, p in biases.items()}
        logits = network.train()(torch.randn(2, 3, *size))
        assert logits.shape == (2, 3, *size)
        logits.square().mean().backward()
        assert all(p.grad is not None for p in network.parameters())
        optimizer.step()
        assert all(not torch.equal(before[k], p) for k, p in biases.items())


@pytest.mark.parametrize("name", SMALL)
def test_no_size_leaves_a_trace(name: str) -> None:
    network = small(name)
    x, larger = (torch.randn(1, 3, *size) for size in ((64, 96), (96, 160)))
    with torch.no_grad():
        first = network(x)
        copied = copy.deepcopy(network)
        network(larger)
        assert torch.equal(network(x), first)
        network.get_parameter("encoder." + _a_bias(network)).add_(1 + torch.arange(49) % 3)
        assert not torch.equal(network(x), first)  # nothing of the old biases is kept
        assert torch.equal(copied(x), first)  # and the copy has biases of its own


def _a_bias(network: nn.Module) -> str:
    return next(k for k, p in network.encoder.named_parameters() if k.endswith("attention_biases"))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param("efficientformer_l1", (64, 96), marks=pytest.mark.slow),
        pytest.param("efficientformerv2_s0", (64, 96), marks=pytest.mark.slow),
        pytest.param("efficientformerv2_s0", (70, 130), marks=pytest.mark.slow),
    ],
)
def test_exports_at_sizes_other_than_224(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    report = export_onnx(small(name), tmp_path / "network.onnx", size, check_batches=(1, 3))
    assert all(parity.relative_difference < 1e-4 for parity in report.parity)


def test_timm_network_takes_them_too() -> None:
    network = TimmModel("efficientformer_l1", num_classes=3, decoder_channels=16)
    assert {"encoder.model.stages.3.blocks.4.token_mixer.attention_bias_idxs"} < set(network.state_dict())
    assert [(info.channels, info.stride) for info in network.feature_info[:4]] == [
        (48, 4),
        (96, 8),
        (224, 16),
        (448, 32),
    ]
    options = SMALL["efficientformerv2_s0"]
    built = TimmModel("efficientformerv2_s0", num_classes=3, decoder_channels=16, img_size=(64, 96), **options).eval()
    with torch.no_grad():
        assert built(torch.randn(1, 3, 100, 60)).shape == (1, 3, 100, 60)
