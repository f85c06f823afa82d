"""The layout that makes CPUs fast gives the right gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segkd.training.precision import to_channels_last


def leave_rubbish() -> None:
    """Fill freed memory with NaN, so that whoever reads what it has not written reads that."""
    for size in (64, 1152, 4608, 2**13, 2**15, 2**17, 2**19, 2**20):
        blocks = [torch.full((size,), float("nan")) for _ in range(3)]
        del blocks


@pytest.mark.parametrize("dilation", [1, 4, 12])
def test_depthwise_gradients_in_bf16_equal_float64(dilation: int) -> None:
    """torch 2.15's oneDNN gets dilated ones wrong in channels_last: 3 in 30 at dilation 4, 28 in 30 at 12."""
    for seed in range(30):
        torch.manual_seed(seed)
        conv = nn.Conv2d(128, 128, 3, padding=dilation, dilation=dilation, groups=128, bias=False)
        x = torch.randn(4, 128, 44, 60)
        exact = conv.weight.detach().double().requires_grad_()
        wanted = nn.functional.conv2d(x.double(), exact, None, 1, dilation, dilation, 128)
        gradient = torch.randn_like(wanted)
        wanted.backward(gradient)

        to_channels_last(conv)
        with torch.autocast("cpu", torch.bfloat16):
            got = conv(x.to(memory_format=torch.channels_last))
        leave_rubbish()
        got.backward(gradient.to(got.dtype).to(memory_format=torch.channels_last))
        assert conv.weight.grad is not None
        assert exact.grad is not None
        error = (conv.weight.grad.double() - exact.grad).norm() / exact.grad.norm()
        assert error < 0.01, f"seed {seed}: relative error {error}"  # bf16 rounds at 2^-9; NaN fails too
