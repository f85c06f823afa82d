"""Similarity-preserving distillation against published values, loops and closed forms."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from scales import scale_of
from traits import Trait

from segkd.errors import UserError
from segkd.losses.sp import SimilarityPreserving, similarity_preserving

TRAIT = Trait(channels=2)


@pytest.fixture(scope="module")
def book():
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_sp.py"
    spec = importlib.util.spec_from_file_location("textbook_forms_sp", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("published", ["repdistiller", "paper"])
def test_golden(golden, published):
    g = golden("sp", "0")
    n = g.student.shape[0]
    scale = scale_of("sp", published, N=n)
    g.check(lambda s, t: scale * SimilarityPreserving(samples="batch")(s, t))


def test_textbook_form_is_the_published_one(golden, book):
    golden("sp", "0").check(book.sp_repdistiller)


@pytest.mark.parametrize(("samples", "width", "teacher"), [(7, 3, 3), (12, 5, 2), (2, 1, 9)])
def test_textbook(book, samples, width, teacher):
    s, t = double(samples, width).requires_grad_(), double(samples, teacher)
    value, want = similarity_preserving(s, t), book.sp_loop(s, t)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s)[0], torch.autograd.grad(want, s)[0])
    scale = scale_of("sp", "repdistiller", N=samples)
    torch.testing.assert_close(scale * value, book.sp_repdistiller(s, t))


def test_two_samples_by_hand():
    t = torch.eye(2, dtype=torch.float64)  # alike to themselves alone: rows (1, 0) and (0, 1)
    s = torch.ones(2, 1, dtype=torch.float64)  # alike to each other: rows (1, 1) / sqrt(2)
    want = (1 - 0.5**0.5) ** 2 + 0.5
    assert float(similarity_preserving(s, t)) == pytest.approx(want, rel=1e-12)


def test_rotation_and_scale_do_not_matter():
    s = double(9, 4)
    rotation = torch.linalg.qr(double(4, 4))[0]
    assert float(similarity_preserving(s, 1e3 * s @ rotation)) == pytest.approx(0.0, abs=1e-12)
    small = similarity_preserving(1e-3 * s, t := double(9, 3))
    torch.testing.assert_close(small, similarity_preserving(s, t))


def test_a_zero_vector_gets_no_gradient():
    s, t = double(5, 3), double(5, 3)
    s[2] = 0
    s.requires_grad_()
    value = similarity_preserving(s, t)
    value.backward()
    assert s.grad[2].abs().max() < 1e2  # the others' rows pull at it; its own, which has no direction, does not
    assert 1 / 5 < float(value.detach()) < 4


def test_one_sample_resembles_itself():
    s = double(1, 3).requires_grad_()
    value = similarity_preserving(s, double(1, 3))
    value.backward()
    assert float(value.detach()) < 1e-30
    assert s.grad.abs().max() < 1e-12


def test_no_gradient_reaches_the_teacher():
    s, t = double(6, 3).requires_grad_(), double(6, 3).requires_grad_()
    similarity_preserving(s, t).backward()
    assert t.grad is None
    assert s.grad.any()


def test_mistakes_are_named():
    with pytest.raises(UserError, match="row for each sample"):
        similarity_preserving(double(2, 3), double(3, 3))
    with pytest.raises(UserError, match="row for each sample"):
        similarity_preserving(double(2, 3, 1, 1), double(2, 3, 1, 1))
    with pytest.raises(UserError, match="'pixels'"):
        SimilarityPreserving(samples="pixel")
    with pytest.raises(UserError, match="num_classes"):
        SimilarityPreserving(samples="regions")
