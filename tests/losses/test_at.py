"""Attention transfer against published values, averaging matrices and closed forms."""

from __future__ import annotations

import pytest
import torch
from scales import scale_of

from segkd.errors import UserError
from segkd.losses.at import AttentionTransfer, attention, attention_transfer, common_size


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("published", ["repdistiller", "cirkd"])
def test_golden(golden, published):
    g = golden("at_same_size", "0")
    _, _, h, w = g.student.shape
    scale = scale_of("at", published, H=h, W=w)
    g.check(lambda s, t: scale * AttentionTransfer()(s, t))


def test_textbook_form_is_the_published_one(golden, forms):
    golden("at_same_size", "0").check(forms.at_repdistiller)


def test_textbook_of_equal_size(forms):
    s, t = double(2, 3, 5, 7), double(2, 11, 5, 7)
    scale = scale_of("at", "repdistiller", H=5, W=7)
    torch.testing.assert_close(scale * attention_transfer(s, t), forms.at_repdistiller(s, t))


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((2, 3, 12, 20), (2, 8, 6, 10)),
        ((2, 8, 6, 10), (2, 3, 12, 20)),
        ((1, 4, 9, 5), (1, 4, 6, 14)),  # taller here, wider there
        ((2, 3, 8, 2), (2, 5, 4, 4)),  # 16 positions on both sides, but not the same ones
        ((3, 1, 7, 13), (3, 2, 5, 13)),
    ],
)
@pytest.mark.parametrize("p", [1.0, 2.0, 4.0])
def test_maps_of_unequal_size_meet_by_area(forms, student, teacher, p):
    s, t = double(*student).requires_grad_(), double(*teacher)
    value, want = attention_transfer(s, t, p), forms.at_matrices(s, t, p)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))


def test_common_size_takes_each_axis_for_itself():
    assert common_size((2, 3, 9, 5), (2, 7, 6, 14)) == (6, 5)


def test_disjoint_attention_is_two_and_scale_does_not_matter():
    s, t = torch.zeros(1, 2, 2, 2), torch.zeros(1, 3, 2, 2)
    s[..., 0], t[..., 1] = 5.0, -0.01
    assert float(attention_transfer(s, t)) == pytest.approx(2.0, rel=1e-6)
    assert float(attention_transfer(t, 1e3 * t)) == pytest.approx(0.0, abs=1e-12)


def test_attention_has_unit_norm_down_to_the_noise_floor():
    f = torch.randn(3, 4, 5, 6)
    for scale in (1e4, 1.0, 1e-4):
        norm = attention(scale * f, (5, 6)).norm(dim=1)
        torch.testing.assert_close(norm, torch.ones(3))
    assert float(attention(1e-12 * f, (5, 6)).norm(dim=1).max()) < 1e-6


def test_ignored_positions_have_no_energy():
    s, t = double(2, 3, 4, 6), double(2, 5, 4, 6)
    valid = torch.ones(2, 4, 6, dtype=torch.bool)
    valid[:, :, 4:] = False
    want = attention_transfer(s[..., :4], t[..., :4])
    t[..., 4:] = 100.0
    s.requires_grad_()
    value = attention_transfer(s, t, valid=valid)
    value.backward()
    torch.testing.assert_close(value.detach(), want)
    assert s.grad[..., 4:].abs().max() == 0
    bigger = valid.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(attention_transfer(s, t, valid=bigger), value)


def test_a_sample_without_valid_positions_is_not_counted():
    s, t = double(2, 3, 4, 6), double(2, 5, 4, 6)
    valid = torch.ones(2, 4, 6, dtype=torch.bool)
    valid[1] = False
    torch.testing.assert_close(attention_transfer(s, t, valid=valid), attention_transfer(s[:1], t[:1]))


def test_several_taps_are_averaged():
    s, t = (double(2, 3, 4, 6), double(2, 5, 8, 3)), (double(2, 7, 4, 6), double(2, 2, 4, 5))
    want = (attention_transfer(s[0], t[0]) + attention_transfer(s[1], t[1])) / 2
    torch.testing.assert_close(AttentionTransfer()(s, t), want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("p", [1, 1.5, 4])
def test_any_exponent_is_finite(p, dtype):
    for scale in (0, 1e-6, 1e-4, 2e-4, 1, 6e4):
        one = torch.zeros(1, 3, 5, 4)
        one[0, 0, 0, 0] = 1
        for feature in (torch.randn(1, 3, 5, 4).clamp(-1, 1), one):
            student = (scale * feature).to(dtype).requires_grad_()
            value = attention_transfer(student, torch.randn(1, 3, 5, 4).to(dtype), p)
            value.backward()
            assert value.isfinite()
            assert student.grad.isfinite().all()


def test_mistakes_are_named():
    f = torch.randn(2, 3, 4, 6)
    with pytest.raises(UserError, match="as many taps"):
        AttentionTransfer()((f, f), (f,))
    with pytest.raises(UserError, match="one N"):
        attention_transfer(f, f[:1])
    with pytest.raises(UserError, match="valid mask"):
        attention_transfer(f, f, valid=torch.ones(1, 4, 6))
    for p in (0.5, 10, float("inf")):
        with pytest.raises(UserError, match="p must be a number from 1 to 4"):
            AttentionTransfer(p=p)
        with pytest.raises(UserError, match="p must be a number from 1 to 4"):
            attention_transfer(f, f, p)
    assert AttentionTransfer.raw_sizes
    assert AttentionTransfer.any_channels
