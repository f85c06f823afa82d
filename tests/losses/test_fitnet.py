"""The hint of FitNets against published values, loops and a closed form."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of

from segkd.errors import UserError
from segkd.losses.fitnet import FitNet, hint

SHAPES = [(2, 5, 3, 7), (1, 4, 9, 2), (3, 1, 1, 6)]


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_fitnet.py"
    spec = importlib.util.spec_from_file_location("textbook_fitnet", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("published", ["repdistiller", "cirkd"])
def test_golden(golden, published):
    g = golden("hint")
    _, c, h, w = g.student.shape
    scale = scale_of("fitnet", published, C=c, H=h, W=w)
    g.check(lambda s, t: scale * FitNet()(s, t))


def test_textbook_form_is_the_published_one(golden, book):
    golden("hint").check(book.hint_published)


@pytest.mark.parametrize("shape", SHAPES)
def test_textbook(book, shape):
    s, t = torch.randn(2, *shape, dtype=torch.float64)
    torch.testing.assert_close(hint(s, t), book.hint_published(s, t))
    _, c, h, w = shape
    scale = scale_of("fitnet", "paper", C=c, H=h, W=w)
    torch.testing.assert_close(scale * hint(s, t), book.hint_paper(s, t))


@pytest.mark.parametrize("shape", SHAPES)
def test_textbook_of_masked_positions(book, shape):
    s, t = torch.randn(2, *shape, dtype=torch.float64)
    s.requires_grad_()
    valid = torch.rand(shape[0], *shape[2:]) < 0.6
    valid[0, 0, 0] = True
    value, want = hint(s, t, valid), book.hint_loop(s, t, valid)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))


def test_two_positions_by_hand():
    student = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=torch.float64).view(1, 2, 1, 2).requires_grad_()
    teacher = torch.tensor([[0.0, 4.0], [3.0, -1.0]], dtype=torch.float64).view(1, 2, 1, 2)
    value = hint(student, teacher)
    assert float(value.detach()) == (1 + 4 + 9 + 0) / 4
    (grad,) = torch.autograd.grad(value, student)
    assert grad.flatten().tolist() == [0.5, -1.0, -1.5, 0.0]
    first = hint(student.detach(), teacher, torch.tensor([[[True, False]]]))
    assert float(first) == (1 + 9) / 2


def test_ignored_positions_take_no_part_even_where_they_are_not_numbers():
    s, t = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
    valid = torch.ones(2, 4, 5, dtype=torch.bool)
    valid[:, 2:] = False
    want = hint(s[:, :, :2], t[:, :, :2])
    s[:, :, 2:], t[:, :, 3:] = float("nan"), float("inf")
    s.requires_grad_()
    value = hint(s, t, valid)
    value.backward()
    torch.testing.assert_close(value.detach(), want)
    assert s.grad[:, :, 2:].abs().max() == 0


def test_mistakes_are_named():
    s, t = torch.randn(2, 2, 3, 4, 5)
    with pytest.raises(UserError, match="Conv1x1"):
        hint(s, t[:, :2])
    with pytest.raises(UserError, match=r"\(N, C, H, W\)"):
        hint(s[0], t[0])
    with pytest.raises(UserError, match="valid mask is"):
        hint(s, t, torch.ones(2, 20))
    with pytest.raises(UserError, match="one tap"):
        FitNet()((s, s), (t, t))
