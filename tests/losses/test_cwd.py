"""Channel-wise distillation against published values, loops and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from scales import scale_of

from segkd.errors import UserError
from segkd.losses.cwd import ChannelWise, channel_wise

SHAPE = (2, 3, 4, 5)


@pytest.mark.parametrize("published", ["cirkd", "mmrazor"])
def test_golden(golden, published):
    g = golden("cwd_cirkd_T4")
    scale = scale_of("cwd", published)
    g.check(lambda s, t: scale * ChannelWise()(s, t))


def test_textbook_form_is_the_published_one(golden, forms):
    golden("cwd_cirkd_T4").check(lambda s, t: forms.cwd_cirkd(s, t, 4.0))


@pytest.mark.parametrize("shape", [(2, 5, 3, 7), (1, 4, 9, 2), (3, 1, 1, 6)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_textbook(forms, shape, temperature):
    s, t = torch.randn(2, *shape, dtype=torch.float64)
    torch.testing.assert_close(channel_wise(s, t, temperature), forms.cwd_cirkd(s, t, temperature))
    valid = torch.rand(shape[0], *shape[2:]) < 0.6
    valid[0, 0, 0] = True
    want = forms.cwd_loop(s, t, temperature, valid)
    torch.testing.assert_close(channel_wise(s, t, temperature, valid), want)


def test_two_positions_by_hand():
    teacher = torch.tensor([math.log(3.0), 0.0], dtype=torch.float64).view(1, 1, 1, 2)
    want = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    value = channel_wise(torch.zeros_like(teacher), teacher, temperature=1.0)
    assert float(value) == pytest.approx(want, rel=1e-12)


def test_ignored_positions_take_no_part():
    s, t = torch.randn(2, *SHAPE, dtype=torch.float64)
    valid = torch.ones(2, 4, 5, dtype=torch.bool)
    valid[:, 2:] = False
    want = channel_wise(s[:, :, :2], t[:, :, :2])
    s[:, :, 2:], t[:, :, 2:] = float("nan"), 1e4
    s.requires_grad_()
    value = channel_wise(s, t, valid=valid)
    value.backward()
    torch.testing.assert_close(value.detach(), want)
    assert s.grad[:, :, 2:].abs().max() == 0


def test_a_sample_without_valid_positions_is_not_counted():
    s, t = torch.randn(2, *SHAPE, dtype=torch.float64)
    valid = torch.ones(2, 4, 5, dtype=torch.bool)
    valid[1] = False
    torch.testing.assert_close(channel_wise(s, t, valid=valid), channel_wise(s[:1], t[:1]))


def test_a_constant_per_channel_does_not_matter():
    s = torch.randn(SHAPE, dtype=torch.float64)
    shift = torch.randn(2, 3, 1, 1, dtype=torch.float64)
    assert float(channel_wise(s, s + shift)) == pytest.approx(0.0, abs=1e-12)


def test_mistakes_are_named():
    s, t = torch.randn(2, *SHAPE)
    with pytest.raises(UserError, match="Conv1x1"):
        channel_wise(s, t[:, :2])
    with pytest.raises(UserError, match=r"\(N, C, H, W\)"):
        channel_wise(s[0], t[0])
    with pytest.raises(UserError, match="valid mask is"):
        channel_wise(s, t, valid=torch.ones(2, 20))
    with pytest.raises(UserError, match="temperature"):
        ChannelWise(temperature=0)
