"""Correlation congruence against published values, the textbook form and closed forms."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from scales import scale_of
from torch.nn import functional as F
from traits import Trait

from segkd.errors import UserError
from segkd.losses.cc import CorrelationCongruence, correlation_congruence

TRAIT = Trait(channels=2)


@pytest.fixture(scope="module")
def book():
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_cc.py"
    spec = importlib.util.spec_from_file_location("textbook_forms_cc", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_golden(golden):
    """torchdistill takes the norm where the paper squares it, on rows that are of unit length already."""
    g = golden("cc_kernel_torchdistill_bilinear")
    n = g.student.shape[0]
    scale = scale_of("cc", "torchdistill", N=n)
    g.check(lambda s, t: scale * correlation_congruence(s, t, "bilinear", normalize=False).sqrt())
    loss = CorrelationCongruence(kernel="bilinear", samples="batch")
    torch.testing.assert_close(scale * loss(g.student[..., None, None], g.teacher[..., None, None]).sqrt(), g.value)


def test_textbook_forms_are_the_published_ones(golden, book):
    golden("cc_kernel_torchdistill_bilinear").check(book.cc_torchdistill)
    golden("cc_repdistiller_author").check(book.cc_repdistiller)


def test_the_authors_code_depends_on_the_order_of_samples_and_this_does_not(golden, book):
    g = golden("cc_repdistiller_author")
    turned = torch.tensor([0, 2, 4, 1, 3, 5])
    s, t = g.student[turned], g.teacher[turned]
    assert abs(float(book.cc_repdistiller(s, t) - g.value)) > 0.1
    torch.testing.assert_close(correlation_congruence(s, t), correlation_congruence(g.student, g.teacher))


@pytest.mark.parametrize(("samples", "width", "teacher"), [(7, 3, 3), (12, 5, 2), (3, 2, 9)])
@pytest.mark.parametrize(("gamma", "max_p"), [(0.4, 2), (1.5, 1), (0.2, 5)])
def test_textbook(book, samples, width, teacher, gamma, max_p):
    s, t = double(samples, width).requires_grad_(), double(samples, teacher)
    value = correlation_congruence(s, t, "gaussian", gamma, max_p)
    scale = scale_of("cc", "paper")
    want = book.cc_paper(*(book.gaussian(F.normalize(x), gamma, max_p) for x in (s, t)))
    torch.testing.assert_close(scale * value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s)[0], torch.autograd.grad(want, s)[0])
    value, want = (
        correlation_congruence(s, t, "bilinear"),
        book.cc_paper(*(book.bilinear(F.normalize(x)) for x in (s, t))),
    )
    torch.testing.assert_close(value, want)


def test_the_expansion_is_of_the_gaussian(book):
    s, t = double(8, 4), double(8, 3)
    want = book.cc_paper(*(book.gaussian_exact(F.normalize(x), 0.4) for x in (s, t)))
    torch.testing.assert_close(correlation_congruence(s, t, max_p=25), want)
    assert float(correlation_congruence(s, t, max_p=2)) == pytest.approx(float(want), rel=0.2)


def test_two_samples_by_hand():
    t = torch.eye(2, dtype=torch.float64)
    s = torch.ones(2, 1, dtype=torch.float64)
    kernel = math.exp(-0.8) * (0.8 + 0.8**2 / 2)  # of equal vectors, above that of orthogonal ones
    assert float(correlation_congruence(s, t)) == pytest.approx(kernel**2 / 2, rel=1e-12)
    assert float(correlation_congruence(s, t, "bilinear")) == pytest.approx(0.5, rel=1e-12)


def test_rotation_and_the_length_of_vectors_do_not_matter():
    s = double(9, 4)
    rotation = torch.linalg.qr(double(4, 4))[0]
    longer = s @ rotation * (1 + torch.rand(9, 1, dtype=torch.float64)) * 100
    assert float(correlation_congruence(s, longer)) == pytest.approx(0.0, abs=1e-20)


def test_a_vector_without_direction_gets_no_gradient():
    s, t = double(5, 3), double(5, 3)
    s[2] *= 1e-9
    s.requires_grad_()
    correlation_congruence(s, t).backward()
    assert s.grad[2].abs().max() == 0
    assert s.grad[0].abs().max() > 0


def test_no_gradient_reaches_the_teacher():
    s, t = double(6, 3).requires_grad_(), double(6, 3).requires_grad_()
    correlation_congruence(s, t).backward()
    assert t.grad is None
    assert s.grad.any()


def test_mistakes_are_named():
    with pytest.raises(UserError, match="row for each sample"):
        correlation_congruence(double(2, 3), double(3, 3))
    with pytest.raises(UserError, match="'gaussian'"):
        CorrelationCongruence(kernel="gausian")
    with pytest.raises(UserError, match="gamma must be"):
        CorrelationCongruence(gamma=0)
    with pytest.raises(UserError, match="max_p must be"):
        CorrelationCongruence(max_p=0)
    with pytest.raises(UserError, match="max_p must be"):
        CorrelationCongruence(max_p=1.5)
