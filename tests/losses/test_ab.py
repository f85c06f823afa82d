"""Activation boundaries against published values, loops and closed forms."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from torch import Tensor
from traits import Trait

from segkd.errors import UserError
from segkd.losses.ab import ActivationBoundaries, activation_boundaries

# responses of the teacher closer to 0 than the margin cost something, on the right side too
TRAIT = Trait(shapes=((3, 5, 4), (2, 5, 4)), zero=False)

SHAPES = [(2, 5, 3, 7), (1, 4, 9, 2), (3, 1, 1, 6)]


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_ab.py"
    spec = importlib.util.spec_from_file_location("textbook_ab", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> Tensor:
    return 2 * torch.randn(*shape, dtype=torch.float64)


def scale_at(feature: Tensor, taps: int = 1, published: str = "repdistiller") -> float:
    _, c, h, w = feature.shape
    return scale_of("ab", published, C=c, H=h, W=w, taps=taps)


@pytest.mark.parametrize("published", ["repdistiller", "author"])
def test_golden_of_both_layers_together(golden, golden_arrays, published):
    case = golden_arrays("ab")
    scale, loss = scale_at(case["in/s1"], taps=2, published=published), ActivationBoundaries()
    for index in ("0", "1"):
        fixed = case["in/s1"] if index == "0" else case["in/s0"]

        def form(s: Tensor, t: Tensor, fixed: Tensor = fixed, index: str = index) -> Tensor:
            student = (s, fixed) if index == "0" else (fixed, s)
            return scale * loss(student, (case["in/t0"], case["in/t1"]))

        golden("ab", index).check(form)


@pytest.mark.parametrize(("index", "weight"), [("0", 0.5), ("1", 1.0)])
def test_golden_of_each_layer(golden_arrays, index, weight):
    case = golden_arrays("ab")
    s = case[f"in/s{index}"].requires_grad_()
    value = weight * scale_at(s) * ActivationBoundaries()(s, case[f"in/t{index}"])
    torch.testing.assert_close(value.detach(), case[f"out/l{index}"], rtol=1e-9, atol=1e-12)
    (grad,) = torch.autograd.grad(value, s)
    torch.testing.assert_close(grad, case[f"grad_l{index}/s{index}"], rtol=1e-7, atol=1e-14)


def test_textbook_form_is_the_published_one(golden, golden_arrays, book):
    case = golden_arrays("ab")
    teachers = (case["in/t0"], case["in/t1"])
    golden("ab", "0").check(lambda s, t: book.ab_published((s, case["in/s1"]), teachers))
    golden("ab", "1").check(lambda s, t: book.ab_published((case["in/s0"], s), teachers))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_textbook(book, shape, margin):
    s, t = double(*shape).requires_grad_(), double(*shape)
    t.view(-1)[0] = 0.0  # the boundary itself counts as silent
    value, want = scale_at(s) * activation_boundaries(s, t, margin), book.ab_published((s,), (t,), margin)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))
    valid = torch.rand(shape[0], *shape[2:]) < 0.6
    valid[0, 0, 0] = True
    value, want = activation_boundaries(s, t, margin, valid), book.ab_loop(s, t, margin, valid)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))


def test_every_case_by_hand():
    student = torch.tensor([0.5, 2.0, -0.5, -3.0, 0.5, 2.0, -0.5, -3.0], dtype=torch.float64).view(1, 2, 2, 2)
    teacher = torch.tensor([0.1] * 4 + [-7.0] * 3 + [0.0], dtype=torch.float64).view(1, 2, 2, 2)
    student.requires_grad_()
    value = activation_boundaries(student, teacher)
    assert float(value.detach()) == (0.25 + 0 + 2.25 + 16 + 2.25 + 9 + 0.25 + 0) / 8
    (grad,) = torch.autograd.grad(value, student)
    assert (grad.flatten() * 4).tolist() == [-0.5, 0, -1.5, -4, 1.5, 3, 0.5, 0]


def test_nothing_is_left_beyond_the_margin_and_the_teachers_size_does_not_matter():
    t = double(2, 3, 4, 5)
    assert float(activation_boundaries(t.sign() * 1.0, t)) == 0
    assert float(activation_boundaries(t.sign() * 50, t)) == 0
    s = double(2, 3, 4, 5)
    torch.testing.assert_close(activation_boundaries(s, 1e3 * t), activation_boundaries(s, t))
    # behind a ReLU a student cannot get below the floor
    silent = -t.abs()
    assert float(activation_boundaries(torch.zeros_like(t), silent, margin=0.5)) == 0.25


def test_ignored_positions_take_no_part_even_where_they_are_not_numbers():
    s, t = double(2, 3, 4, 5), double(2, 3, 4, 5)
    valid = torch.ones(2, 4, 5, dtype=torch.bool)
    valid[:, 2:] = False
    want = activation_boundaries(s[:, :, :2], t[:, :, :2])
    s[:, :, 2:], t[:, :, 3:] = float("nan"), float("nan")
    s.requires_grad_()
    value = activation_boundaries(s, t, valid=valid)
    value.backward()
    torch.testing.assert_close(value.detach(), want)
    assert s.grad[:, :, 2:].abs().max() == 0


def test_several_taps_are_averaged_and_share_the_mask():
    s, t = (double(2, 3, 4, 6), double(2, 5, 2, 3)), (double(2, 3, 4, 6), double(2, 5, 2, 3))
    loss = ActivationBoundaries(margin=0.7)
    want = (activation_boundaries(s[0], t[0], 0.7) + activation_boundaries(s[1], t[1], 0.7)) / 2
    torch.testing.assert_close(loss(s, t), want)
    small = torch.tensor([[[True, False, True], [False, False, True]], [[False] * 3, [True] * 3]])
    large = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    first = activation_boundaries(s[0], t[0], 0.7, large)
    second = activation_boundaries(s[1], t[1], 0.7, small)
    torch.testing.assert_close(loss(s, t, valid=large), (first + second) / 2)


def test_the_features_are_not_written_into():
    s, t = double(2, 3, 4, 5), double(2, 3, 4, 5)
    before = s.clone(), t.clone()
    activation_boundaries(s, t, valid=torch.rand(2, 4, 5) < 0.5)
    torch.testing.assert_close((s, t), before, rtol=0, atol=0)


def test_mistakes_are_named():
    s, t = torch.randn(2, 2, 3, 4, 5)
    with pytest.raises(UserError, match="Conv1x1"):
        activation_boundaries(s, t[:, :2])
    with pytest.raises(UserError, match=r"\(N, C, H, W\)"):
        activation_boundaries(s[0], t[0])
    with pytest.raises(UserError, match="valid mask is"):
        activation_boundaries(s, t, valid=torch.ones(2, 20))
    with pytest.raises(UserError, match="valid mask is"):
        ActivationBoundaries()(s, t, valid=torch.ones(2, 8, 10))
    with pytest.raises(UserError, match="as many taps"):
        ActivationBoundaries()((s, s), (t,))
    with pytest.raises(UserError, match="margin"):
        ActivationBoundaries(margin=0)
