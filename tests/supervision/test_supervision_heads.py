"""Heads: their published forms, their parameters, and the names that checkpoints know them by."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.supervision import AuxHead, BoundaryHead
from segkd.workbench.composing import compose


def shaken(head: nn.Module) -> nn.Module:
    """In eval mode, float64, with random statistics and parameters."""
    for name, tensor in head.state_dict().items():
        if tensor.is_floating_point():
            torch.rand(tensor.shape, out=tensor) if "var" in name else torch.randn(tensor.shape, out=tensor)
    return head.double().eval()


def normed(x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
    return F.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))


def test_the_default_head_keeps_the_names_of_old_checkpoints() -> None:
    norm = [f"norm.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
    assert list(AuxHead(8, 5).state_dict()) == ["conv.weight", *norm, "classifier.weight", "classifier.bias"]
    head = AuxHead(8, 5)
    assert (head.conv.out_channels, head.conv.kernel_size, head.dropout.p) == (4, (3, 3), 0.1)


def test_the_default_head_is_convolution_norm_relu_classifier() -> None:
    head, x = shaken(AuxHead(6, 5, middle=7, kernel=5, bias=True)), torch.randn(2, 6, 9, 11, dtype=torch.float64)
    inner = normed(F.conv2d(x, head.conv.weight, head.conv.bias, padding=2), head.norm)
    torch.testing.assert_close(head(x), F.conv2d(inner, head.classifier.weight, head.classifier.bias))


def test_a_head_may_begin_with_its_norm() -> None:
    head, x = shaken(AuxHead(6, 5, middle=7, norm_first=True)), torch.randn(2, 6, 9, 11, dtype=torch.float64)
    inner = normed(F.conv2d(normed(x, head.norm_in), head.conv.weight, padding=1), head.norm)
    torch.testing.assert_close(head(x), F.conv2d(inner, head.classifier.weight, head.classifier.bias))
    assert head.dropout.p == 0
    assert AuxHead(6, 5, norm_first=True, dropout=0.3).dropout.p == 0.3


def test_a_head_without_middle_is_one_convolution() -> None:
    head = AuxHead(6, 5, middle=0)
    assert list(head.state_dict()) == ["classifier.weight", "classifier.bias"]
    assert head(torch.randn(1, 6, 1, 1)).shape == (1, 5, 1, 1)  # nothing else: not even a norm, which needs a batch


@pytest.mark.parametrize(
    ("head", "count"),
    [
        (AuxHead(64, 19, middle=128, norm_first=True), 76_563),  # PIDNet-S, P
        (BoundaryHead(64, 19, middle=32, norm_first=True), 18_657),  # PIDNet-S, D
        (BoundaryHead(256, 19, middle=64, classifier_bias=False), 147_648),  # STDC's detail head
        (AuxHead(128, 19, middle=64, classifier_bias=False), 75_072),  # STDC's, at strides 16 and 32
        (AuxHead(1024, 19, middle=256), 2_364_691),  # PSPNet's
    ],
)
def test_published_heads_have_their_parameters(head: nn.Module, count: int) -> None:
    assert sum(p.numel() for p in head.parameters()) == count


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(UserError, match="odd, got 4"):
        AuxHead(8, 5, kernel=4)


@pytest.mark.parametrize(
    ("kind", "arguments", "variance"),
    [
        (AuxHead, dict(init="fan_out"), (2 / (128 * 9), 2 / 19)),
        (AuxHead, dict(init="fan_in"), (2 / (64 * 9), 2 / 128)),
        (BoundaryHead, dict(init="fan_in", slope=1.0), (1 / (64 * 9), 1 / 128)),
        (AuxHead, {}, (1 / 3 / (64 * 9), 1 / 3 / 128)),  # torch: uniform up to 1 / sqrt(fan-in)
    ],
)
def test_initial_variance(kind: type[AuxHead], arguments: dict[str, Any], variance: tuple[float, float]) -> None:
    torch.manual_seed(0)  # the smallest part has 128 numbers, whose variance is a fifth off one time in nine
    head = kind(64, 19, middle=128, **arguments)
    assert head.conv.weight.var().item() == pytest.approx(variance[0], rel=0.05)
    assert head.classifier.weight.var().item() == pytest.approx(variance[1], rel=0.3)


@pytest.mark.parametrize(
    ("name", "init"),
    [
        ("ddrnet23", ("fan_out", 0.0)),
        ("ddrnet23_slim", ("fan_out", 0.0)),
        ("pidnet_s", ("fan_out", 0.0)),
        ("pidnet_m", ("fan_out", 0.0)),
        ("pidnet_l", ("fan_out", 0.0)),
        ("stdc1", ("fan_in", 1.0)),
        ("stdc2", ("fan_in", 1.0)),
        ("fasterseg", ("fan_in", 0.0)),
        ("fasterseg_teacher", ("fan_in", 0.0)),
        ("bisenetv1", ("fan_in", 0.0)),
        ("pspnet_r50", (None, 0.0)),
    ],
)
def test_configs_start_their_heads_as_the_authors_do(name: str, init: tuple[str | None, float]) -> None:
    """As in the authors' model files (DDRNet, PIDNet, STDC) and training scripts (TorchSeg's family)."""
    heads = [t["head"] for t in compose(name, data="cityscapes")["model"]["supervision"].values() if "head" in t]
    assert heads
    assert {(head.get("init"), head.get("slope", 0.0)) for head in heads} == {init}
