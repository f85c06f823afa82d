"""Logit standardization, around kd and dkd, against published values, loops and closed forms."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from torch import Tensor

from segkd import losses
from segkd.errors import UserError
from segkd.losses.dkd import DecoupledKD, decoupled_kd
from segkd.losses.kd import PixelwiseKD, pixelwise_kd
from segkd.losses.logit_standardization import LogitStandardization, standardize

SHAPE = (2, 5, 3, 4)
DKD = {"type": "dkd", "alpha": 0.7, "beta": 2.0, "temperature": 3.0}


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_logit_standardization.py"
    spec = importlib.util.spec_from_file_location("textbook_logit_standardization", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def rows(x: Tensor) -> Tensor:
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def test_golden(golden):
    g = golden("logit_std_T2")
    scale = scale_of("logit_standardization", "torchdistill", H=1, W=1, T=2.0)
    g.check(lambda s, t: scale * LogitStandardization()(s, t))
    g.check(lambda s, t: scale * losses.create("logit_standardization", loss=PixelwiseKD(temperature=2.0))(s, t))


def test_golden_as_a_map_standardises_the_classes(golden):
    # torchdistill would take the width
    g = golden("logit_std_T2")
    scale = scale_of("logit_standardization", "torchdistill", H=1, W=1, T=2)
    g.check(lambda s, t: scale * LogitStandardization()(*(x.T.reshape(1, 7, 2, 3) for x in (s, t))))


def test_textbook_form_is_the_published_one(golden, book):
    golden("logit_std_T2").check(book.kd_torchdistill)


@pytest.mark.parametrize("shape", [(2, 5, 3, 7), (1, 19, 9, 4), (3, 2, 1, 6)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_textbook(book, shape, temperature):
    s, t = 3 * double(2, *shape) + 2
    loss = LogitStandardization({"type": "kd", "temperature": temperature})
    want = book.kd_torchdistill(rows(s), rows(t), temperature)
    scale = scale_of("logit_standardization", "torchdistill", H=1, W=1, T=temperature)
    torch.testing.assert_close(scale * loss(s, t), want)
    authors = scale_of("logit_standardization", "authors")
    torch.testing.assert_close(authors * loss(s, t), temperature**2 * want)
    valid = torch.rand(shape[0], *shape[2:]) < 0.6
    valid[0, 0, 0] = True
    torch.testing.assert_close(loss(s, t, valid=valid), book.kd_loop(s, t, valid, temperature))


def test_around_kd_and_dkd(book):
    s, t = double(2, *SHAPE)
    label = torch.randint(0, 5, (2, 3, 4))
    label[0, 1] = 255
    valid = torch.rand(2, 3, 4) < 0.7
    z_s, z_t = (book.z_score(rows(x)).reshape(2, 3, 4, 5).movedim(-1, 1) for x in (s, t))
    torch.testing.assert_close(LogitStandardization()(s, t, label, valid=valid), pixelwise_kd(z_s, z_t, 2.0, valid))
    want = decoupled_kd(z_s, z_t, label, 0.7, 2.0, 3.0, valid=valid)
    torch.testing.assert_close(LogitStandardization(DKD)(s, t, label, valid=valid), want)
    torch.testing.assert_close(LogitStandardization(DecoupledKD(0.7, 2.0, 3.0))(s, t, label, valid=valid), want)


def test_two_classes_by_hand():
    # of two logits with K - 1 = 1 in the denominator, z is (1, -1) / sqrt(2), whatever their difference
    z = standardize(torch.tensor([[5.0, 2.0], [-1.0, 1e4]], dtype=torch.float64))
    torch.testing.assert_close(z, torch.tensor([[1.0, -1], [-1, 1]], dtype=torch.float64) / 2**0.5, atol=1e-6, rtol=0)


def test_a_factor_and_a_shift_do_not_matter():
    t = double(*SHAPE)
    s = (0.1 + torch.rand(2, 1, 3, 4)) * t + double(2, 1, 3, 4)
    assert float(LogitStandardization()(s, t)) == pytest.approx(0, abs=1e-9)
    assert float(LogitStandardization(DKD)(s, t, torch.zeros(2, 3, 4).long())) == pytest.approx(0, abs=1e-9)
    assert float(LogitStandardization()(-t, t)) > 1


@pytest.mark.parametrize("logit", [0.0, 1.0, 0.1, -1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_logits_have_no_gradient(logit, dtype):
    t = double(*SHAPE).to(dtype)
    s = torch.full_like(t, logit)
    s[0, :, 0] = t[1, :, 0]
    s.requires_grad_()
    value = LogitStandardization()(s, t)
    value.backward()
    assert value.isfinite()
    assert s.grad[1].abs().max() == 0
    assert 0 < s.grad[0].abs().max() < 10
    z = standardize(torch.full((1, 5, 1, 2), logit, dtype=dtype))
    assert z.abs().max() == 0


def test_one_class_has_nothing_to_tell():
    s, t = double(2, 2, 1, 3, 4)
    s.requires_grad_()
    value = LogitStandardization()(s, t)
    value.backward()
    assert float(value.detach()) == 0
    assert s.grad.abs().max() == 0


@pytest.mark.parametrize("loss", [{"type": "kd"}, DKD])
def test_ignored_pixels_take_no_part_even_when_not_finite(loss):
    s, t = double(2, *SHAPE)
    label = torch.randint(0, 5, (2, 3, 4))
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    valid[0, 1] = False
    if loss is DKD:
        label[1, 0] = 255
    want = LogitStandardization(loss)(s, t, label, valid=valid)
    s[0, :, 1], t[0, :, 1] = float("nan"), float("inf")
    if loss is DKD:
        s[1, :, 0] = float("inf")
    s.requires_grad_()
    value = LogitStandardization(loss)(s, t, label, valid=valid)
    value.backward()
    torch.testing.assert_close(value.detach(), want)
    assert s.grad.isfinite().all()
    assert s.grad[0, :, 1].abs().max() == 0


def test_all_ignored_gives_zero_around_dkd():
    s, t = double(2, *SHAPE)
    s.requires_grad_()
    value = LogitStandardization(DKD)(s, t, torch.full((2, 3, 4), 255))
    value.backward()
    assert float(value.detach()) == 0
    assert s.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_around_dkd(dtype):
    s, t = double(2, *SHAPE).to(dtype)
    label = torch.randint(0, 5, (2, 3, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = LogitStandardization(DKD)(s, t, label)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, LogitStandardization(DKD)(s.float(), t.float(), label))


def test_teacher_gets_no_gradient_around_dkd():
    s, t = double(2, *SHAPE).requires_grad_().unbind()
    t = t.detach().requires_grad_()
    LogitStandardization(DKD)(s, t, torch.zeros(2, 3, 4).long()).backward()
    assert t.grad is None


def test_mistakes_are_named():
    s, t = double(2, *SHAPE)
    with pytest.raises(UserError, match="around kd or dkd, got ChannelWise"):
        LogitStandardization({"type": "cwd"})
    with pytest.raises(UserError, match="'dkd'"):
        LogitStandardization({"type": "dkdd"})
    with pytest.raises(UserError, match="'temperature'"):
        LogitStandardization({"type": "kd", "temprature": 2.0})
    with pytest.raises(UserError, match="needs the labels"):
        LogitStandardization(DKD)(s, t)
    with pytest.raises(UserError, match="Conv1x1"):
        LogitStandardization()(s, t[:, :4])
    with pytest.raises(UserError, match="valid mask is"):
        LogitStandardization()(s, t, valid=torch.ones(2, 12))
    with pytest.raises(UserError, match=r"\(N, K\)"):
        LogitStandardization()(s[0, :, 0, 0], t[0, :, 0, 0])
    with pytest.raises(UserError, match="one tap"):
        LogitStandardization()((s, s), t)
