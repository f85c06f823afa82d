"""FSP against published values, loops and closed forms."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from torch.nn import functional as F
from traits import Trait

from segkd.errors import UserError
from segkd.losses.fsp import FlowOfSolution, flow_of_solution, fsp_matrix

TRAIT = Trait(shapes=((3, 5, 4), (2, 5, 4)))


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_fsp.py"
    spec = importlib.util.spec_from_file_location("textbook_fsp", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def published_check(arrays, form, out, taps):
    """Value and gradients of ``form(students, teachers)`` equal the golden output ``out`` over these taps."""
    student = tuple(arrays[f"in/s{i}"].clone().requires_grad_() for i in taps)
    value = form(student, tuple(arrays[f"in/t{i}"] for i in taps))
    torch.testing.assert_close(value.detach(), arrays[f"out/{out}"].reshape(()), rtol=1e-9, atol=1e-12)
    for i, grad in zip(taps, torch.autograd.grad(value, student), strict=True):
        torch.testing.assert_close(grad, arrays[f"grad_{out}/s{i}"], rtol=1e-7, atol=1e-14)


@pytest.mark.parametrize(("out", "taps"), [("loss", (0, 1, 2)), ("l0", (0, 1)), ("l1", (1, 2))])
def test_golden(golden_arrays, out, taps):
    arrays = golden_arrays("fsp_same_hw")
    scale = scale_of("fsp", "repdistiller", pairs=len(taps) - 1)
    published_check(arrays, lambda s, t: scale * FlowOfSolution()(s, t), out, taps)


def test_textbook_form_is_the_published_one(golden_arrays, book):
    published_check(golden_arrays("fsp_same_hw"), book.fsp, "loss", (0, 1, 2))


@pytest.mark.parametrize(("n", "channels", "size"), [(2, (5, 3), (4, 7)), (1, (1, 6, 2), (9, 2)), (3, (4, 1), (1, 1))])
def test_textbook(book, n, channels, size):
    student = tuple(double(n, c, *size).requires_grad_() for c in channels)
    teacher = tuple(double(n, c, *size) for c in channels)
    value, want = (len(channels) - 1) * FlowOfSolution()(student, teacher), book.fsp(student, teacher)
    torch.testing.assert_close(value, want)
    for got, wanted in zip(torch.autograd.grad(value, student), torch.autograd.grad(want, student), strict=True):
        torch.testing.assert_close(got, wanted)


def test_the_papers_sum_over_the_matrix(book):
    student, teacher = (double(2, 5, 4, 7), double(2, 3, 4, 7)), (double(2, 5, 4, 7), double(2, 3, 4, 7))
    g_s, g_t = book.matrices(student)[0], book.matrices(teacher)[0]
    scale = scale_of("fsp", "paper", C1=5, C2=3, pairs=1)
    torch.testing.assert_close(scale * FlowOfSolution()(student, teacher), (g_s - g_t).square().sum((1, 2)).mean())


def test_two_channels_by_hand():
    first = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    second = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 2.0]]).view(1, 2, 2, 2)
    torch.testing.assert_close(fsp_matrix(first, second), torch.tensor([[[2.5, 2.0]]]))
    value = flow_of_solution((first, second), (first, torch.zeros_like(second)))
    assert float(value) == pytest.approx((2.5**2 + 2.0**2) / 2)


def test_layers_of_unequal_size_meet_on_each_axis(book):
    student, teacher = [(double(2, 3, 8, 5), double(2, 4, 4, 10)) for _ in range(2)]
    pooled = [(F.avg_pool2d(a, (2, 1)), F.avg_pool2d(b, (1, 2))) for a, b in (student, teacher)]
    torch.testing.assert_close(flow_of_solution(student, teacher), book.fsp(*pooled))


def test_ignored_positions_take_no_part(book):
    student, teacher = [(double(2, 3, 4, 6), double(2, 5, 4, 6)) for _ in range(2)]
    valid = torch.rand(2, 4, 6) < 0.5
    valid[:, 0, 0] = True
    want = (book.fsp_loop(*student, valid) - book.fsp_loop(*teacher, valid)).square().mean()
    for x in (*student, *teacher):
        x.movedim(1, -1)[~valid] = float("nan")
    student = tuple(x.requires_grad_() for x in student)
    value = flow_of_solution(student, teacher, valid)
    value.backward()
    torch.testing.assert_close(value.detach(), want)
    for x in student:
        assert x.grad.movedim(1, -1)[~valid].abs().max() == 0
    bigger = valid.repeat_interleave(2, 1).repeat_interleave(3, 2)
    torch.testing.assert_close(flow_of_solution(student, teacher, bigger), value)


def test_a_sample_without_valid_positions_is_not_counted():
    student, teacher = [(double(2, 3, 4, 6), double(2, 5, 4, 6)) for _ in range(2)]
    valid = torch.ones(2, 4, 6, dtype=torch.bool)
    valid[1] = False
    first = [tuple(x[:1] for x in side) for side in (student, teacher)]
    torch.testing.assert_close(flow_of_solution(student, teacher, valid), flow_of_solution(*first))


def test_half_gradients_beyond_its_range_keep_their_direction():
    single = [(1e3 * torch.randn(2, 3, 4, 6), 1e3 * torch.randn(2, 5, 4, 6)) for _ in range(2)]
    half = [tuple(x.half().requires_grad_() for x in side) for side in single]
    wide = [tuple(x.detach().float().requires_grad_() for x in side) for side in half]
    grads = torch.autograd.grad(flow_of_solution(*half), half[0])
    wanted = torch.autograd.grad(flow_of_solution(*wide), wide[0])
    for got, want in zip(grads, wanted, strict=True):
        assert want.abs().max() > torch.finfo(torch.float16).max
        scaled = want * (torch.finfo(torch.float16).max / want.abs().max())
        torch.testing.assert_close(got.float(), scaled, rtol=2e-3, atol=1)


def test_mistakes_are_named():
    a, b = torch.randn(2, 3, 4, 6), torch.randn(2, 5, 4, 6)
    with pytest.raises(UserError, match="two or more taps a side"):
        FlowOfSolution()(a, a)
    with pytest.raises(UserError, match="got 2 and 3"):
        FlowOfSolution()((a, b), (a, b, b))
    with pytest.raises(UserError, match="Conv1x1"):
        FlowOfSolution()((a, b), (a, a))
    with pytest.raises(UserError, match="resize one"):
        FlowOfSolution()((a, b), (a, b[..., 1:]))
    with pytest.raises(UserError, match="one N"):
        FlowOfSolution()((a, b), (a[:1], b[:1]))
    with pytest.raises(UserError, match="valid mask"):
        FlowOfSolution()((a, b), (a, b), valid=torch.ones(2, 24))
