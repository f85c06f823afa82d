"""Sums in blocks are the sums of whole maps, in value and gradient, however small the blocks are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.losses import blocks
from segkd.losses.blocks import CHANNELS, POSITIONS, blockwise_sum, parts, zeroed
from segkd.losses.cwd import channel_wise
from segkd.losses.dist import stronger_teacher
from segkd.losses.dkd import decoupled_kd
from segkd.losses.kd import pixelwise_kd
from segkd.losses.logit_standardization import LogitStandardization

SHAPE = (3, 5, 4, 6)
Loss = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]

LOSSES: dict[str, Loss] = {
    "kd": lambda s, t, label, valid: pixelwise_kd(s, t, 2.0, valid),
    "dkd": lambda s, t, label, valid: decoupled_kd(s, t, label, valid=valid),
    "logit_standardization": lambda s, t, label, valid: LogitStandardization()(s, t, valid=valid),
    "cwd": lambda s, t, label, valid: channel_wise(s, t, 4.0, valid),
    "dist": lambda s, t, label, valid: stronger_teacher(s, t, valid=valid),
}


def inputs(shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    s, t = (3 * torch.randn(shape, generator=source, dtype=torch.float64) for _ in range(2))
    positions = (shape[0], *shape[2:])
    label = torch.randint(0, shape[1], positions, generator=source)
    label[0] = 255
    return s.requires_grad_(), t, label, torch.rand(positions, generator=source) < 0.7


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [1, 7, 40, 130, 10**6])
def test_losses_do_not_depend_on_the_blocks(monkeypatch, name, masked, size):
    s, t, label, valid = inputs()
    given = (s, t, label, valid if masked else None)
    found = []
    for one in (10**9, size):
        monkeypatch.setattr(blocks, "BLOCK", one)
        value = LOSSES[name](*given)
        found.append((value.detach(), torch.autograd.grad(value, s)[0]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("shape", [SHAPE, (8, 5), (2, 3, 7), (2, 3, 2, 2, 2)])
@pytest.mark.parametrize("along", [POSITIONS, CHANNELS])
@pytest.mark.parametrize("size", [2, 30, 10**6])
def test_a_sum_of_everything_is_autograds(monkeypatch, shape, along, size):
    monkeypatch.setattr(blocks, "BLOCK", size)
    s, t, _, weight = inputs(shape)

    def term(s: Tensor, t: Tensor, weight: Tensor | None) -> Tensor:
        assert s.is_contiguous()
        assert t.is_contiguous()
        assert weight is not None
        return (weight[:, None] * (s - t).square()).sum()

    value = blockwise_sum(term, s, t, weight, along=along)
    want = (weight[:, None] * (s - t).square()).sum()
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(3 * value, s), torch.autograd.grad(3 * want, s))


def test_parts_are_all_of_the_maps_once(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 30)
    s, t, label, _ = inputs()
    found = list(parts(s, t, label, None))
    assert len(found) > 3
    assert all(part[3] is None and not part[0].requires_grad for part in found)
    assert sorted(torch.cat([p[2].flatten() for p in found]).tolist()) == sorted(label.flatten().tolist())
    for k, whole in enumerate((s, t)):
        columns = torch.cat([p[k].movedim(1, 2).flatten(0, 1) for p in found])
        torch.testing.assert_close(columns, whole.detach().movedim(1, 3).flatten(0, 2))


def test_the_gradient_may_be_taken_again_but_not_differentiated():
    s, t, _, _ = inputs()
    value = pixelwise_kd(s, t)
    first, second = (torch.autograd.grad(value, s, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="without create_graph"):
        torch.autograd.grad(value + s.sum(), s, create_graph=True)


def test_without_a_gradient_there_is_none():
    s, t, _, _ = inputs()
    want = pixelwise_kd(s, t).detach()
    assert torch.equal(pixelwise_kd(s.detach(), t), want)
    with torch.no_grad():
        value = pixelwise_kd(s, t)
    assert torch.equal(value, want)
    assert not value.requires_grad


def test_a_half_gradient_is_rounded_once():
    """A gradient per pixel is far below what half holds, its factor for a mean over pixels too: not their product."""
    s, t = (torch.randn(1, 3, 256, 512).half() for _ in range(2))
    single, scale = s.float().requires_grad_(), 2.0**16
    (scale * pixelwise_kd(single, t.float())).backward()
    (scale * pixelwise_kd(s.requires_grad_(), t)).backward()
    assert s.grad is not None
    assert single.grad is not None
    torch.testing.assert_close(s.grad, single.grad.half())


def test_zeroed_positions_hide_what_is_not_finite():
    x, counted = torch.randn(2, 3, 5), torch.rand(2, 5) < 0.5
    counted[:, 0] = False
    torch.testing.assert_close(zeroed(x, counted), x.masked_fill(~counted[:, None], 0))
    for bad in (float("nan"), float("inf")):
        spoilt = x.clone()
        spoilt[:, :, 0] = bad
        assert torch.equal(zeroed(spoilt, counted), x.masked_fill(~counted[:, None], 0))


def test_faint_classes_of_dist_count_like_others_in_any_block(monkeypatch):
    """A class of probability e^-60 everywhere, whose largest ones lie in different blocks."""
    s, t, _, _ = inputs()
    with torch.no_grad():
        s[:, 1] -= 60
    want = []
    for size in (10**9, 20):
        monkeypatch.setattr(blocks, "BLOCK", size)
        value = stronger_teacher(s, t, beta=0.0)
        want.append((value.detach(), torch.autograd.grad(value, s)[0]))
    torch.testing.assert_close(want[0], want[1])
    p_s, p_t = (x.detach().softmax(1).movedim(1, 0).flatten(1) for x in (s, t))
    correlation = torch.stack(
        [torch.corrcoef(torch.stack([a / a.max(), b]))[0, 1] for a, b in zip(p_s, p_t, strict=True)]
    )
    torch.testing.assert_close(want[0][0], (1 - correlation).mean())


def test_softmax_over_positions_is_not_cut(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1)
    s, t, _, _ = inputs()
    log_s, log_t = ((x / 4).flatten(2).log_softmax(2) for x in (s, t))
    want = 16 * F.kl_div(log_s, log_t, reduction="sum", log_target=True) / 15
    torch.testing.assert_close(channel_wise(s, t, 4.0), want)
