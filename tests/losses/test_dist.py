"""DIST against published values, torch's own correlations and closed forms."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from torch import Tensor

from segkd.errors import UserError
from segkd.losses.dist import StrongerTeacher, stronger_teacher

SHAPE = (2, 5, 3, 4)


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_dist.py"
    spec = importlib.util.spec_from_file_location("textbook_dist", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def value_and_grad(form, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    s = s.clone().requires_grad_()
    value = form(s, t)
    (grad,) = torch.autograd.grad(value, s)
    return value.detach(), grad


@pytest.mark.parametrize("published", ["dist", "mmrazor", "torchdistill"])
def test_golden_up_to_the_published_epsilon(golden, published):
    g = golden("dist")
    scale = scale_of("dist", published)
    value, grad = value_and_grad(lambda s, t: scale * StrongerTeacher()(s, t), g.student, g.teacher)
    torch.testing.assert_close(value, g.value, rtol=1e-9, atol=0)
    assert (grad - g.grad).norm() < 1e-6 * g.grad.norm()


def test_textbook_form_with_the_published_epsilon_is_the_published_one(golden, book):
    golden("dist").check(lambda s, t: book.dist_published(s, t, eps=1e-8))


def test_golden_input_without_epsilon_is_the_textbook_one(golden, book):
    g = golden("dist")
    want = value_and_grad(lambda s, t: book.dist_published(s, t, eps=0.0), g.student, g.teacher)
    got = value_and_grad(StrongerTeacher(), g.student, g.teacher)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("shape", [(2, 5, 3, 7), (1, 19, 9, 4), (3, 3, 1, 5)])
@pytest.mark.parametrize(("beta", "gamma", "temperature"), [(1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (0.7, 2.0, 4.0)])
def test_textbook(book, shape, beta, gamma, temperature):
    s, t = double(2, *shape)

    def ours(s: Tensor, t: Tensor, valid: Tensor | None = None) -> Tensor:
        return stronger_teacher(s, t, beta, gamma, temperature, valid)

    want = value_and_grad(lambda s, t: book.dist_published(s, t, beta, gamma, temperature, eps=0.0), s, t)
    torch.testing.assert_close(value_and_grad(ours, s, t), want)
    valid = torch.rand(shape[0], *shape[2:]) < 0.6
    valid[0, 0, :3] = True
    want = value_and_grad(lambda s, t: book.dist_corrcoef(s, t, valid, beta, gamma, temperature), s, t)
    torch.testing.assert_close(value_and_grad(lambda s, t: ours(s, t, valid), s, t), want)


def test_rows_are_pixels(book):
    s, t = double(2, *SHAPE)
    rows = [x.movedim(1, -1).reshape(-1, 5) for x in (s, t)]
    torch.testing.assert_close(stronger_teacher(*rows), stronger_teacher(s, t))


def test_by_hand():
    # probabilities per pixel: teacher (6, 3, 1) and (1, 1, 8), student (1, 3, 6) and (2, 2, 6), in tenths
    teacher, student = (
        torch.tensor(x, dtype=torch.float64).T.log()[None, :, None]
        for x in ([[6.0, 3.0, 1.0], [1.0, 1.0, 8.0]], [[1.0, 3.0, 6.0], [2.0, 2.0, 6.0]])
    )
    deviations = [(6 - 10 / 3, 3 - 10 / 3, 1 - 10 / 3), (1 - 10 / 3, 3 - 10 / 3, 6 - 10 / 3)]
    first = sum(a * b for a, b in zip(*deviations, strict=True)) / sum(a * a for a in deviations[0])
    inter = ((1 - first) + (1 - 1)) / 2
    # over two pixels every correlation is 1 or -1: class 0 falls, rises; class 1 falls in both; class 2 is constant
    # in the student (counts 1)
    intra = (2 + 0 + 1) / 3
    assert float(stronger_teacher(student, teacher, gamma=0)) == pytest.approx(inter, rel=1e-12)
    assert float(stronger_teacher(student, teacher, beta=0)) == pytest.approx(intra, rel=1e-12)
    assert float(stronger_teacher(student, teacher, beta=3, gamma=5)) == pytest.approx(3 * inter + 5 * intra)
    # the other way round, the constant class is the teacher's and is not counted
    assert float(stronger_teacher(teacher, student, beta=0)) == pytest.approx((2 + 0) / 2, rel=1e-12)


def test_inter_class_sees_the_classes_and_intra_class_the_pixels():
    t = double(1, 4, 5, 3)
    s = t + double(1, 1, 5, 3)  # a shift per pixel: the same distributions
    assert float(stronger_teacher(s, t)) == pytest.approx(0, abs=1e-12)
    assert float(stronger_teacher(t + double(1, 4, 1, 1), t, gamma=0)) > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [-20.0, -80.0, -300.0])
def test_absent_classes_count_as_any_other(book, dtype, shift):
    # the published epsilon makes them count 1, without gradient, even for student = teacher
    s, t = double(2, 2, 6, 5, 4)
    absent = torch.tensor([0.0, 1, 0, 1, 1, 0], dtype=torch.float64).view(1, 6, 1, 1)
    s, t = s + shift * absent, t + shift * absent
    value, grad = value_and_grad(lambda s, t: stronger_teacher(s, t, beta=0), s.to(dtype), t.to(dtype))
    want, want_grad = value_and_grad(lambda s, t: book.dist_published(s, t, beta=0, eps=0), s, t)
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    assert float(value) == pytest.approx(float(want), rel=tolerance)
    assert (grad - want_grad).norm() < tolerance * want_grad.norm()
    assert grad[:, 3].norm() > 1e-4
    equal = stronger_teacher(s.to(dtype), s.to(dtype))
    assert float(equal) == pytest.approx(0, abs=1e-6)
    if shift == -20:
        with_epsilon, grad_with_epsilon = value_and_grad(lambda s, t: book.dist_published(s, s, beta=0), s, s)
        assert float(with_epsilon) > 0.4
        assert grad_with_epsilon[:, 3].norm() < 1e-4


def test_absent_classes_count_under_a_mask_too():
    s, t = double(2, *SHAPE).float()
    s[:, 1], t[:, 1] = s[:, 1] - 300, t[:, 1] - 200
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    valid[:, 2] = False
    value, grad = value_and_grad(lambda s, t: stronger_teacher(s, t, valid=valid), s, t)
    want = value_and_grad(stronger_teacher, s[:, :, :2], t[:, :, :2])
    torch.testing.assert_close((value, grad[:, :, :2]), want)


def test_constant_vectors_of_the_teacher_are_not_counted():
    s, t = double(2, *SHAPE)
    t[0, :, 0] = 7.0  # four pixels with uniform distributions
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    valid[0, 0] = False
    got = value_and_grad(lambda s, t: stronger_teacher(s, t, gamma=0), s, t)
    want = value_and_grad(lambda s, t: stronger_teacher(s, t, gamma=0, valid=valid), s, t)
    torch.testing.assert_close(got, want)
    value, grad = value_and_grad(stronger_teacher, s, torch.zeros_like(t))
    assert float(value) == 0
    assert grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [0.0, 1.0, -1e4, 0.1])
def test_a_constant_student_counts_one_without_gradient(dtype, logit):
    t = double(*SHAPE).to(dtype)
    value, grad = value_and_grad(stronger_teacher, torch.full_like(t, logit), t)
    assert float(value) == pytest.approx(2, rel=1e-6)
    assert grad.abs().max() == 0


def test_ignored_pixels_take_no_part_even_when_not_finite():
    s, t = double(2, *SHAPE)
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    valid[0, 1] = False
    keep = [x.movedim(1, -1)[valid] for x in (s, t)]
    want = stronger_teacher(*keep)
    s[0, :, 1], t[0, :, 1] = float("nan"), float("inf")
    value, grad = value_and_grad(lambda s, t: stronger_teacher(s, t, valid=valid), s, t)
    torch.testing.assert_close(value, want)
    assert grad.isfinite().all()
    assert grad[0, :, 1].abs().max() == 0


def test_temperature_keeps_the_size_of_the_gradient():
    s, t = 0.01 * double(2, *SHAPE)  # nearly uniform: the correlation of probabilities is that of logits
    one, ten = (float(stronger_teacher(s, t, temperature=x)) for x in (1.0, 10.0))
    assert ten == pytest.approx(100 * one, rel=0.01)
    assert math.isclose(float(StrongerTeacher(temperature=10.0)(s, t)), ten)


def test_mistakes_are_named():
    s, t = double(2, *SHAPE)
    with pytest.raises(UserError, match="Conv1x1"):
        stronger_teacher(s, t[:, :4])
    with pytest.raises(UserError, match="resize"):
        stronger_teacher(s, t[..., :3])
    with pytest.raises(UserError, match="valid mask is"):
        stronger_teacher(s, t, valid=torch.ones(2, 12))
    with pytest.raises(UserError, match=r"\(N, K\)"):
        stronger_teacher(s[0, :, 0, 0], t[0, :, 0, 0])
    with pytest.raises(UserError, match="one tap"):
        StrongerTeacher()((s, s), t)
    for arguments in ({"beta": -1.0}, {"gamma": float("nan")}, {"beta": 0.0, "gamma": 0.0}):
        with pytest.raises(UserError, match=r"(beta|gamma)"):
            StrongerTeacher(**arguments)
    with pytest.raises(UserError, match="temperature"):
        StrongerTeacher(temperature=0.0)
