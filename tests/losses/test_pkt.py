"""Probabilistic knowledge transfer against published values, loops and closed forms."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from scales import scale_of
from traits import Trait

from segkd.errors import UserError
from segkd.losses.pkt import ProbabilisticTransfer, probabilistic_transfer

# a small eps: it alone does not shrink with the probabilities, when a batch is repeated or a map tiled
TRAIT = Trait(kwargs={"eps": 1e-12}, channels=2)


@pytest.fixture(scope="module")
def book():
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_pkt.py"
    spec = importlib.util.spec_from_file_location("textbook_forms_pkt", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_golden(golden):
    g = golden("pkt")
    n = g.student.shape[0]
    scale = scale_of("pkt", "repdistiller", N=n)
    loss = ProbabilisticTransfer(samples="batch")
    g.check(lambda s, t: scale * loss(s[..., None, None], t[..., None, None]))


def test_textbook_form_is_the_published_one(golden, book):
    golden("pkt").check(book.pkt_repdistiller)


@pytest.mark.parametrize(("samples", "width", "teacher"), [(7, 3, 3), (12, 5, 2), (3, 2, 9)])
def test_textbook(book, samples, width, teacher):
    s, t = double(samples, width).requires_grad_(), double(samples, teacher)
    scale = scale_of("pkt", "repdistiller", N=samples)
    value, want = scale * probabilistic_transfer(s, t, 1e-5), book.pkt_repdistiller(s, t, 1e-5)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s)[0], torch.autograd.grad(want, s)[0])
    torch.testing.assert_close(probabilistic_transfer(s, t, 1e-12), book.pkt_loop(s, t))


def test_paper_sums_over_the_samples(book):
    s, t = double(5, 3), double(5, 3)
    scale = scale_of("pkt", "paper", N=5)
    torch.testing.assert_close(scale * probabilistic_transfer(s, t), 25 * book.pkt_repdistiller(s, t))


def test_two_samples_by_hand():
    t = torch.eye(2, dtype=torch.float64)  # cosines 1 and 0: kernel 1 and 1/2
    s = torch.ones(2, 1, dtype=torch.float64)  # both alike
    want = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert float(probabilistic_transfer(s, t, 1e-12)) == pytest.approx(want, rel=1e-9)


def test_rotation_and_the_length_of_vectors_do_not_matter():
    s = double(9, 4)
    rotation = torch.linalg.qr(double(4, 4))[0]
    longer = s @ rotation * (1 + torch.rand(9, 1, dtype=torch.float64)) * 100
    assert float(probabilistic_transfer(s, longer, 1e-12)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("length", [0.0, 1e-7])
def test_a_vector_without_direction_is_half_as_near_as_an_equal_and_gets_no_gradient(length):
    s, t = double(5, 3), double(5, 3)
    s[2] *= length
    s.requires_grad_()
    value = probabilistic_transfer(s, t)
    value.backward()
    assert value.isfinite()
    assert s.grad[2].abs().max() == 0
    assert s.grad[0].abs().max() > 0


@pytest.mark.parametrize("eps", [1e-7, 1e-12])
def test_opposite_vectors_are_finite(eps):
    x = torch.randn(60, 50)
    s, t = torch.cat([x, -x]).requires_grad_(), torch.randn(120, 50)
    for student, teacher in ((s, t), (t.requires_grad_(), s)):
        value = probabilistic_transfer(student, teacher, eps)
        assert value.isfinite()
        assert torch.autograd.grad(value, student)[0].isfinite().all()


def test_one_sample_gives_zero():
    assert float(probabilistic_transfer(double(1, 3), double(1, 3))) == 0


def test_no_gradient_reaches_the_teacher():
    s, t = double(6, 3).requires_grad_(), double(6, 3).requires_grad_()
    probabilistic_transfer(s, t).backward()
    assert t.grad is None
    assert s.grad.any()


def test_mistakes_are_named():
    with pytest.raises(UserError, match="row for each sample"):
        probabilistic_transfer(double(2, 3), double(3, 3))
    with pytest.raises(UserError, match="eps must be"):
        ProbabilisticTransfer(eps=0)
