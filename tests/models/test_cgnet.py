"""CGNet against the published shapes and cost, and plain forms of its parts."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from published import GOLDEN, difference, gmacs, on_meta
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.cgnet import CGNet, ContextGuided, ContextGuidedDown, GlobalGate, LocalAndSurrounding

NAME = "CGNet M3N21[official]"


def randomise(network: nn.Module) -> None:
    """BatchNorms and PReLUs that do something."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
            layer.bias.data.normal_()
        elif isinstance(layer, nn.PReLU):
            layer.weight.data.uniform_(0.0, 0.5)


def norm_act(x: Tensor, norm: nn.BatchNorm2d, act: nn.PReLU) -> Tensor:
    out = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-3)  # type: ignore[arg-type]
    return out.clamp_min(0) + act.weight[:, None, None] * out.clamp_max(0)


def gated(x: Tensor, gate: GlobalGate) -> Tensor:
    """x sigmoid(W2 relu(W1 mean(x)))."""
    squeeze, _, excite, _ = gate.gate
    hidden = (x.mean((2, 3)) @ squeeze.weight.T + squeeze.bias).clamp_min(0)  # type: ignore[union-attr, operator]
    return x * torch.sigmoid(hidden @ excite.weight.T + excite.bias)[:, :, None, None]  # type: ignore[union-attr, operator]


def contexts(x: Tensor, pair: LocalAndSurrounding, dilation: int) -> Tensor:
    groups = x.shape[1]
    local = F.conv2d(x, pair.local.weight, padding=1, groups=groups)
    around = F.conv2d(x, pair.surrounding.weight, padding=dilation, dilation=dilation, groups=groups)
    return norm_act(torch.cat([local, around], 1), pair.norm_act.norm, pair.norm_act.act)


def test_shapes_and_cost_are_the_published_ones() -> None:
    network = on_meta(lambda: CGNet(num_classes=19))
    assert difference(network, NAME) == (Counter(), Counter())
    assert sum(p.numel() for p in network.parameters()) == GOLDEN[NAME]["total_params"]
    for size, cost in GOLDEN[NAME]["gmacs"].items():
        assert gmacs(network, *map(int, size.split("x"))) == pytest.approx(cost, rel=1e-3)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == GOLDEN[NAME]["batchnorm"]["n"]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.1)}


def test_block_against_its_definition() -> None:
    """x + gate(act([local, surrounding](act(1x1(x))))), in float64 at an odd size."""
    torch.manual_seed(0)
    block = ContextGuided(16, dilation=4, reduction=8).double().eval()
    randomise(block)
    x = torch.randn(2, 16, 13, 19, dtype=torch.float64)
    (conv, norm, act), pair, gate = block.body
    out = norm_act(F.conv2d(x, conv.weight), norm, act)
    torch.testing.assert_close(block(x), x + gated(contexts(out, pair, 4), gate))  # type: ignore[arg-type]


def test_down_block_against_its_definition() -> None:
    """gate(1x1(act([local, surrounding](act(3x3 of stride 2))))), and no identity."""
    torch.manual_seed(0)
    block = ContextGuidedDown(6, 16, dilation=2, reduction=8).double().eval()
    randomise(block)
    x = torch.randn(2, 6, 13, 19, dtype=torch.float64)
    (conv, norm, act), pair, reduce, gate = block
    out = norm_act(F.conv2d(x, conv.weight, stride=2, padding=1), norm, act)
    out = F.conv2d(contexts(out, pair, 2), reduce.weight)  # type: ignore[arg-type]
    torch.testing.assert_close(block(x), gated(out, gate))  # type: ignore[arg-type]


def test_dilations_and_widths_of_the_gates() -> None:
    """Dilation 2 and a gate of an eighth at stride 4, 4 and a sixteenth at stride 8: M3N21."""
    network = CGNet(num_classes=5)
    for down, stage, blocks, dilation, hidden in (
        (network.down2, network.stage2, 2, 2, 8),
        (network.down3, network.stage3, 20, 4, 8),
    ):
        assert len(stage) == blocks
        pairs = [m for part in (down, stage) for m in part.modules() if isinstance(m, LocalAndSurrounding)]
        gates = [m for part in (down, stage) for m in part.modules() if isinstance(m, GlobalGate)]
        assert {pair.surrounding.dilation for pair in pairs} == {(dilation, dilation)}
        assert {gate.gate[0].out_features for gate in gates} == {hidden}
        assert len(pairs) == len(gates) == blocks + 1


def test_what_is_joined() -> None:
    """Stage 2 goes before what went into it, stage 3 behind; the pooled image joins the first two levels alone."""
    torch.manual_seed(0)
    network = CGNet(num_classes=5, m=2, n=2).double().eval()
    randomise(network)
    x = torch.randn(1, 3, 45, 67, dtype=torch.float64)
    seen: dict[str, Tensor] = {}
    for path in ("stem", "join1", "down2", "stage2", "join2", "down3", "stage3", "join3", "classifier"):
        network.get_submodule(path).register_forward_hook(
            lambda m, given, out, path=path: seen.update({path: out, f"{path}@input": given[0]})
        )
    logits = network(x)
    mean = torch.full((3, 1, 3, 3), 1 / 9, dtype=torch.float64)
    half = F.conv2d(x, mean, stride=2, padding=1, groups=3)
    quarter = F.conv2d(half, mean, stride=2, padding=1, groups=3)
    torch.testing.assert_close(seen["join1@input"], torch.cat([seen["stem"], half], 1))
    torch.testing.assert_close(seen["join2@input"], torch.cat([seen["stage2"], seen["down2"], quarter], 1))
    torch.testing.assert_close(seen["join3@input"], torch.cat([seen["down3"], seen["stage3"]], 1))
    want = F.interpolate(seen["classifier"], size=(45, 67), mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, want)


def test_dropout_only_where_asked_for() -> None:
    torch.manual_seed(0)
    features = torch.ones(1, 256, 2, 2)
    assert torch.equal(CGNet(5, m=2, n=2).dropout(features), features)
    dropped = CGNet(5, m=2, n=2, dropout=0.5).dropout(features)
    assert {tuple(channel.unique().tolist()) for channel in dropped[0]} == {(0.0,), (2.0,)}, "whole channels"


def test_too_few_blocks() -> None:
    with pytest.raises(UserError, match="m >= 2 and n >= 2"):
        CGNet(num_classes=5, m=1)
