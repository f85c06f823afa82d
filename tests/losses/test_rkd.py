"""Relational distillation against published values, the textbook form and closed forms."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from scales import scale_of
from traits import Trait

from segkd.errors import UserError
from segkd.losses import rkd
from segkd.losses.rkd import RelationalKD, relational_kd

# the count is that of all pixels of a tiled map; more would take long, by their cube
TRAIT = Trait(kwargs={"count": 24}, shapes=((3, 3, 2),), channels=2)


@pytest.fixture(scope="module")
def book():
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_rkd.py"
    spec = importlib.util.spec_from_file_location("textbook_forms_rkd", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def check_textbook(book, s, t, w_d, w_a):
    s.requires_grad_()
    value, want = relational_kd(s, t, w_d, w_a), book.rkd_repdistiller(s, t, w_d, w_a)
    torch.testing.assert_close(value, want, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(torch.autograd.grad(value, s)[0], torch.autograd.grad(want, s)[0])


@pytest.mark.parametrize(("name", "w_d", "w_a"), [("rkd_distance_only", 1.0, 0.0), ("rkd_angle_only", 0.0, 1.0)])
def test_golden(golden, name, w_d, w_a):
    g = golden(name)
    scale = scale_of("rkd", "repdistiller")
    loss = RelationalKD(w_d=w_d, w_a=w_a, samples="batch")
    g.check(lambda s, t: scale * loss(s[..., None, None], t[..., None, None]))


def test_textbook_form_is_the_published_one(golden, book):
    golden("rkd_distance_only").check(book.rkd_distance_repdistiller)
    golden("rkd_angle_only").check(book.rkd_angle_repdistiller)


@pytest.mark.parametrize(("samples", "width", "teacher"), [(3, 2, 5), (11, 4, 3), (40, 2, 7)])
@pytest.mark.parametrize(("w_d", "w_a"), [(25.0, 50.0), (1.0, 0.0), (0.0, 1.0)])
def test_textbook(book, samples, width, teacher, w_d, w_a):
    check_textbook(book, double(samples, width), double(samples, teacher), w_d, w_a)


@pytest.mark.parametrize("held", [1, 300, 10**9])
def test_blocks_do_not_matter(book, monkeypatch, held):
    monkeypatch.setitem(rkd.BLOCK, "cpu", held)
    check_textbook(book, double(13, 4), double(13, 3), 25.0, 50.0)


def test_triangle_by_hand():
    s = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    t = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    distance = 2 * sum((a / 4 - b / (4 / 3)) ** 2 / 2 for a, b in [(3, 1), (4, 2), (5, 1)]) / 9
    assert float(relational_kd(s, t, 1, 0)) == pytest.approx(distance, rel=1e-12)
    # cosines of the student's angles at the three corners, and of the teacher's, on a line
    angle = 2 * sum(rkd_huber(a - b) for a, b in [(0, 1), (3 / 5, -1), (4 / 5, 1)]) / 27
    assert float(relational_kd(s, t, 0, 1)) == pytest.approx(angle, rel=1e-12)


def rkd_huber(x: float) -> float:
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def test_turned_moved_and_scaled_is_the_same():
    s = double(9, 4)
    rotation = torch.linalg.qr(double(4, 4))[0]
    assert float(relational_kd(s, 1e3 * s @ rotation + 100)) == pytest.approx(0.0, abs=1e-18)
    assert float(relational_kd(s + 1e6, s)) < 1e-15
    single = s.float() + 1e4  # what float32 still tells apart, far from the origin
    assert float(relational_kd(single, 5 * (single.double() - 1e4))) < 1e-20


@pytest.mark.parametrize("samples", [0, 1, 2])
def test_fewer_than_three_samples_give_zero(samples):
    s = double(samples, 4).requires_grad_()
    value = relational_kd(s, double(samples, 4))
    value.backward()
    assert float(value.detach()) == 0
    assert s.grad.abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_coincident_samples_are_one(book, dtype):
    s, t = double(6, 3).to(dtype), double(6, 3).to(dtype)
    want = relational_kd(s, t)
    twice = s.repeat(2, 1).requires_grad_()
    value = relational_kd(twice, t.repeat(2, 1))
    value.backward()
    torch.testing.assert_close(value.detach(), want)
    assert twice.grad.abs().max() < 100
    assert twice.grad.any()
    rough = s.float() + 1000
    noise = rough.repeat(2, 1) * (1 + torch.rand(12, 3) * 1e-7)  # the last place
    torch.testing.assert_close(relational_kd(noise, t.repeat(2, 1)), relational_kd(rough, t), rtol=5e-3, atol=0)


def test_samples_almost_coincident_have_no_exploding_gradient():
    s, t = double(6, 3), double(7, 3)
    s = torch.cat([s, s[:1] + 1e-6]).requires_grad_()
    relational_kd(s, t).backward()
    assert s.grad.abs().max() < 100
    assert s.grad.any()


def test_constant_map_with_rounding_has_no_gradient():
    s = (torch.full((20, 8), 0.1) * (1 + 1e-7 * torch.randn(20, 8))).requires_grad_()
    value = relational_kd(s, torch.randn(20, 8))
    value.backward()
    assert value.isfinite()
    assert s.grad.abs().max() == 0


def test_nothing_of_the_size_of_all_angles_is_held(monkeypatch):
    largest = []
    cosines = rkd._cosines
    monkeypatch.setattr(rkd, "_cosines", lambda *a, **k: largest.append(cosines(*a, **k)) or largest[-1])
    relational_kd(double(60, 3), double(60, 3))
    assert max(x.numel() for x in largest) <= rkd.BLOCK["cpu"] < 60**3


def test_no_gradient_reaches_the_teacher():
    s, t = double(6, 3).requires_grad_(), double(6, 3).requires_grad_()
    relational_kd(s, t).backward()
    assert t.grad is None
    assert s.grad.any()


def test_mistakes_are_named():
    with pytest.raises(UserError, match="row for each sample"):
        relational_kd(double(4, 3), double(3, 3))
    with pytest.raises(UserError, match="w_a must be"):
        RelationalKD(w_a=-1)
    with pytest.raises(UserError, match="w_d must be"):
        RelationalKD(w_d=math.inf)
    with pytest.raises(UserError, match="are all 0"):
        RelationalKD(w_d=0, w_a=0)
