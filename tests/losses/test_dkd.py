"""Decoupled KD against published values, loops and closed forms."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from torch import Tensor
from traits import Trait

from segkd.errors import UserError
from segkd.losses.dkd import DecoupledKD, decoupled_kd

TRAIT = Trait(classes=3, smallest=(1, 3, 1, 1))

SHAPE = (2, 5, 3, 4)


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_dkd.py"
    spec = importlib.util.spec_from_file_location("textbook_dkd", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def inputs(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    s, t = torch.randn(2, *shape, dtype=torch.float64)
    return s, t, torch.randint(0, shape[1], (shape[0], *shape[2:]))


@pytest.mark.parametrize("published", ["mdistiller", "mmrazor"])
def test_golden(golden, golden_arrays, published):
    g, target = golden("dkd_a1_b0.5_T1"), golden_arrays("dkd_a1_b0.5_T1")["buf/target"]
    n = g.student.shape[0]
    scale = scale_of("dkd", published, N=n, H=1, W=1)
    g.check(lambda s, t: scale * DecoupledKD(alpha=1.0, beta=0.5, temperature=1.0)(s, t, target))
    g.check(lambda s, t: scale * DecoupledKD()(s, t, target))


def test_golden_as_a_map_with_ignored_pixels_between(golden, golden_arrays):
    g, target = golden("dkd_a1_b0.5_T1"), golden_arrays("dkd_a1_b0.5_T1")["buf/target"]
    label = torch.full((1, 3, 4), 255)
    label[:, :, ::2] = target.view(1, 3, 2)

    def as_map(rows: Tensor) -> Tensor:
        maps = rows.new_full((1, 7, 3, 4), 3.0)
        maps[:, :, :, ::2] = rows.T.reshape(1, 7, 3, 2)
        return maps

    g.check(lambda s, t: DecoupledKD()(as_map(s), as_map(t), label))


def test_textbook_form_is_the_published_one(golden, golden_arrays, book):
    target = golden_arrays("dkd_a1_b0.5_T1")["buf/target"]
    golden("dkd_a1_b0.5_T1").check(lambda s, t: book.dkd_rows(s, t, target, 1.0, 0.5, 1.0))


@pytest.mark.parametrize("shape", [(2, 5, 3, 7), (1, 19, 9, 4), (3, 2, 1, 6)])
@pytest.mark.parametrize(("alpha", "beta", "temperature"), [(1.0, 8.0, 4.0), (0.3, 0.5, 0.7)])
def test_textbook(book, shape, alpha, beta, temperature):
    s, t, label = inputs(shape)
    rows_s, rows_t = (x.movedim(1, -1).reshape(-1, shape[1]) for x in (s, t))
    want = book.dkd_rows(rows_s, rows_t, label.flatten(), alpha, beta, temperature)
    torch.testing.assert_close(decoupled_kd(s, t, label, alpha, beta, temperature), want)
    torch.testing.assert_close(decoupled_kd(rows_s, rows_t, label.flatten(), alpha, beta, temperature), want)
    valid = torch.rand(shape[0], *shape[2:]) < 0.7
    valid[0, 0, :2] = True
    label[0, 0, 0] = 255
    want = book.dkd_loop(s, t, label, valid & (label != 255), alpha, beta, temperature)
    torch.testing.assert_close(decoupled_kd(s, t, label, alpha, beta, temperature, valid=valid), want)


def test_mmrazor_mean_is_a_sum(book):
    s, t, label = inputs()
    rows = book.dkd_rows(*(x.movedim(1, -1).reshape(-1, 5) for x in (s, t)), label.flatten(), 1.0, 0.5, 1.0)
    scale = scale_of("dkd", "mmrazor_mean", N=2, H=3, W=4)
    torch.testing.assert_close(scale * decoupled_kd(s, t, label), rows * 24)


def test_three_classes_by_hand():
    # teacher (6, 3, 1) / 10, student (1, 1, 1) / 3, label 0
    teacher = torch.tensor([[6.0, 3.0, 1.0]], dtype=torch.float64).log()
    label = torch.tensor([0])
    tckd = 0.6 * math.log(0.6 * 3) + 0.4 * math.log(0.4 * 3 / 2)
    nckd = 0.75 * math.log(0.75 * 2) + 0.25 * math.log(0.25 * 2)
    value = decoupled_kd(torch.zeros_like(teacher), teacher, label, alpha=2.0, beta=8.0)
    assert float(value) == pytest.approx(2 * tckd + 8 * nckd, rel=1e-12)


def test_whole_kl_is_tckd_and_nckd_weighted_by_the_other_probability():
    s, t, _ = inputs((1, 6, 1, 1))
    label = torch.tensor([[[4]]])
    p_t = t.softmax(1)
    want = torch.nn.functional.kl_div(s.log_softmax(1), p_t, reduction="sum")
    beta = float(1 - p_t[0, 4, 0, 0])
    torch.testing.assert_close(decoupled_kd(s, t, label, alpha=1.0, beta=beta), want)


def test_ignored_pixels_take_no_part_even_when_not_finite():
    s, t, label = inputs()
    label[0, 1] = 255
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    valid[1, 0, 1] = False
    want = decoupled_kd(s, t, label, valid=valid)
    s[0, :, 1], t[0, :, 1] = float("nan"), float("inf")
    s[1, :, 0, 1] = float("inf")
    s.requires_grad_()
    value = decoupled_kd(s, t, label, valid=valid)
    value.backward()
    torch.testing.assert_close(value.detach(), want)
    assert s.grad.isfinite().all()
    assert s.grad[0, :, 1].abs().max() == 0
    assert s.grad[1, :, 0, 1].abs().max() == 0
    assert s.grad[0, :, 0].abs().min() > 0


def test_another_ignore_index():
    s, t, label = inputs()
    label[:, 2] = 255
    other = label.masked_fill(label == 255, -1)
    want = DecoupledKD()(s, t, label)
    torch.testing.assert_close(DecoupledKD(ignore_index=-1)(s, t, other), want)


@pytest.mark.parametrize("gap", [110.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_confident_networks_have_finite_gradients(gap, dtype):
    # log(1 - p_y) as a difference is -inf from a gap of 110 on
    s = torch.tensor([[gap, 0.0, 1.0], [0.0, gap, 1.0]], dtype=dtype, requires_grad=True)
    t = torch.tensor([[0.0, gap, 1.0], [0.0, gap, 1.0]], dtype=dtype)
    value = decoupled_kd(s, t, torch.tensor([0, 1]))
    value.backward()
    assert float(value.detach()) == pytest.approx(gap / 2, rel=0.02)
    assert s.grad.isfinite().all()
    assert float(s.grad[0, 0]) == pytest.approx(0.5)


def test_one_class_has_nothing_to_tell():
    s, t, label = inputs((2, 1, 3, 4))
    s.requires_grad_()
    value = decoupled_kd(s, t, label)
    value.backward()
    assert float(value.detach()) == 0
    assert s.grad.abs().max() == 0


def test_mistakes_are_named():
    s, t, label = inputs()
    with pytest.raises(UserError, match="needs the labels"):
        DecoupledKD()(s, t)
    with pytest.raises(UserError, match=r"\(2, 3, 3\).*\(2, 3, 4\)"):
        decoupled_kd(s, t, label[..., :3])
    for wrong in (5, -1):
        with pytest.raises(UserError, match=rf"label is {wrong}, .*5 classes.*ignore_index=255"):
            decoupled_kd(s, t, label.masked_fill(label == 1, wrong))
    with pytest.raises(UserError, match="Conv1x1"):
        decoupled_kd(s, t[:, :4], label)
    with pytest.raises(UserError, match="valid mask is"):
        decoupled_kd(s, t, label, valid=torch.ones(2, 3, 3))
    with pytest.raises(UserError, match=r"\(N, K\)"):
        decoupled_kd(s[0, :, 0, 0], t[0, :, 0, 0], label[0, 0, 0])
    with pytest.raises(UserError, match="one tap"):
        DecoupledKD()((s, s), t, label)
    for arguments in ({"alpha": -1.0}, {"beta": float("nan")}, {"alpha": 0.0, "beta": 0.0}):
        with pytest.raises(UserError, match=r"(alpha|beta)"):
            DecoupledKD(**arguments)
    with pytest.raises(UserError, match="temperature"):
        DecoupledKD(temperature=0.0)
