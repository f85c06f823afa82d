"""Sums in blocks lose nothing: in each precision their gradient is as near to float64's as one pass over whole maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.losses.cwd import channel_wise
from segkd.losses.kd import pixelwise_kd


def plain_kd(student: Tensor, teacher: Tensor) -> Tensor:
    log_s, log_t = student.float().log_softmax(1), teacher.float().log_softmax(1)
    positions = student.numel() / student.shape[1]
    return F.kl_div(log_s, log_t, reduction="sum", log_target=True) / positions


def plain_cwd(student: Tensor, teacher: Tensor) -> Tensor:
    log_s, log_t = (x.float().flatten(2).div(4).log_softmax(2) for x in (student, teacher))
    return 16 * F.kl_div(log_s, log_t, reduction="sum", log_target=True) / (student.shape[0] * student.shape[1])


@pytest.mark.parametrize(("loss", "plain"), [(pixelwise_kd, plain_kd), (channel_wise, plain_cwd)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gradient_in_blocks_is_as_exact_as_one_of_whole_maps(loss, plain, dtype, monkeypatch) -> None:
    monkeypatch.setattr("segkd.losses.blocks.BLOCK", 1000)
    student, teacher = (2 * torch.randn(4, 11, 24, 32, generator=torch.Generator().manual_seed(k)) for k in (0, 1))

    def gradient(value, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        value(x, teacher.to(x.dtype)).backward()
        assert x.grad is not None
        return x.grad.double()

    exact = gradient(loss, student.to(dtype).double())
    ours, theirs = (float((gradient(f, student.to(dtype)) - exact).norm() / exact.norm()) for f in (loss, plain))
    assert ours <= 1.1 * theirs + 1e-9
    assert float(gradient(loss, student.to(dtype)).norm() / exact.norm()) == pytest.approx(1, abs=1e-4)
