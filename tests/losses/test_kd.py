"""Pixel-wise KD against published values, loops and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from scales import scale_of

from segkd.errors import UserError
from segkd.losses.kd import PixelwiseKD, pixelwise_kd

SHAPE = (2, 5, 3, 4)


@pytest.mark.parametrize(
    ("case", "published", "temperature"),
    [
        ("kd_repdistiller_4d_T1", "repdistiller", 1.0),
        ("kd_repdistiller_4d_T4", "repdistiller", 4.0),
        ("kd_repdistiller_2d_T4", "repdistiller", 4.0),
        ("kd_repdistiller_4d_T4", "mmrazor", 4.0),
        ("kd_cirkd_pixel_T4", "cirkd", 4.0),
    ],
)
def test_golden(golden, case, published, temperature):
    g = golden(case)
    n, k, h, w = (*g.student.shape, 1, 1)[:4]
    scale = scale_of("kd", published, N=n, K=k, H=h, W=w, T=temperature)
    g.check(lambda s, t: scale * pixelwise_kd(s, t, temperature))


def test_textbook_forms_are_the_published_ones(golden, forms):
    golden("kd_repdistiller_4d_T1").check(lambda s, t: forms.kd_repdistiller(s, t, 1.0))
    golden("kd_repdistiller_2d_T4").check(lambda s, t: forms.kd_repdistiller(s, t, 4.0))
    golden("kd_cirkd_pixel_T4").check(lambda s, t: forms.kd_cirkd(s, t, 4.0))


def test_golden_skd_is_cross_entropy_with_the_teachers_entropy(golden):
    g = golden("skd_pixelwise", "0")
    n = g.student.shape[0]
    scale = scale_of("kd", "skd", N=n)
    entropy = torch.distributions.Categorical(logits=g.teacher.movedim(1, -1)).entropy().mean()
    g.check(lambda s, t: scale * pixelwise_kd(s, t), offset=scale * entropy)


def test_golden_torchdistill_without_t_squared(golden):
    g = golden("logit_std_T2")
    scale = scale_of("kd", "torchdistill", H=1, W=1, T=2.0)

    def standardise(x):
        return (x - x.mean(1, keepdim=True)) / (1e-7 + x.std(1, keepdim=True))

    g.check(lambda s, t: scale * pixelwise_kd(standardise(s), standardise(t), 2.0))


@pytest.mark.parametrize("published", ["ifvd", "skd_cvpr_19"])
def test_the_scale_of_a_mean_over_everything_is_torchs_own(published):
    s, t = torch.randn(2, *SHAPE, dtype=torch.float64)
    n, k, h, w = SHAPE
    want = torch.nn.functional.kl_div(s.log_softmax(1), t.softmax(1), reduction="none").mean()
    scale = scale_of("kd", published, N=n, K=k, H=h, W=w, T=1)
    torch.testing.assert_close(scale * pixelwise_kd(s, t), want)


@pytest.mark.parametrize("shape", [(2, 5, 3, 7), (1, 19, 9, 4), (3, 2, 1, 1)])
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_textbook(forms, shape, temperature):
    s, t = torch.randn(2, *shape, dtype=torch.float64)
    valid = torch.rand(shape[0], *shape[2:]) < 0.6
    valid[0, 0, 0] = True
    want = forms.kd_pixel_loop(s, t, temperature, valid)
    torch.testing.assert_close(pixelwise_kd(s, t, temperature, valid), want)
    torch.testing.assert_close(pixelwise_kd(s, t, temperature), forms.kd_cirkd(s, t, temperature))
    _, _, h, w = shape
    scale = scale_of("kd", "repdistiller", H=h, W=w)
    torch.testing.assert_close(scale * pixelwise_kd(s, t, temperature), forms.kd_repdistiller(s, t, temperature))


def test_two_classes_by_hand():
    # softmax of (log 3, 0) is (3/4, 1/4), of (0, 0) is (1/2, 1/2): KL(teacher || student), not the other way round
    teacher = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    want = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(pixelwise_kd(torch.zeros_like(teacher), teacher)) == pytest.approx(want, rel=1e-12)


def test_gradient_is_the_difference_of_probabilities():
    s, t = torch.randn(2, *SHAPE, dtype=torch.float64)
    s.requires_grad_()
    pixelwise_kd(s, t, temperature=2.0).backward()
    n, _, h, w = SHAPE
    want = 2.0 * ((s.detach() / 2).softmax(1) - (t / 2).softmax(1)) / (n * h * w)
    torch.testing.assert_close(s.grad, want)


def test_ignored_pixels_take_no_part_even_when_not_finite():
    s, t = torch.randn(2, *SHAPE, dtype=torch.float64)
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    valid[0, 1] = False
    want = pixelwise_kd(s, t, valid=valid)
    s[0, :, 1], t[0, :, 1] = float("nan"), float("inf")
    s.requires_grad_()
    value = pixelwise_kd(s, t, valid=valid)
    value.backward()
    torch.testing.assert_close(value.detach(), want)
    assert s.grad.isfinite().all()
    assert s.grad[0, :, 1].abs().max() == 0


def test_class_keeps_its_temperature():
    s, t = torch.randn(2, *SHAPE)
    torch.testing.assert_close(PixelwiseKD(temperature=3.0)(s, (t,)), pixelwise_kd(s, t, 3.0))


def test_mistakes_are_named():
    s, t = torch.randn(2, *SHAPE)
    with pytest.raises(UserError, match=r"\(2, 5, 3, 4\).*\(2, 4, 3, 4\).*Conv1x1"):
        pixelwise_kd(s, t[:, :4])
    with pytest.raises(UserError, match="resize"):
        pixelwise_kd(s, t[..., :3])
    with pytest.raises(UserError, match="valid mask is"):
        pixelwise_kd(s, t, valid=torch.ones(2, 3, 3))
    with pytest.raises(UserError, match=r"\(N, K\)"):
        pixelwise_kd(torch.zeros(3), torch.zeros(3))
    with pytest.raises(UserError, match="one tap"):
        PixelwiseKD()((s, s), t)
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="temperature"):
            PixelwiseKD(temperature)
