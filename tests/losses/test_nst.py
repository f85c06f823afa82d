"""NST against published values, loops and closed forms."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from traits import Trait

from segkd.errors import UserError
from segkd.losses import nst
from segkd.losses.nst import NeuronSelectivity, neuron_selectivity

TRAIT = Trait(channels=4)


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_nst.py"
    spec = importlib.util.spec_from_file_location("textbook_nst", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_golden(golden):
    g = golden("nst", "0")
    scale = scale_of("nst", "repdistiller")
    g.check(lambda s, t: scale * NeuronSelectivity()(s, t))


def test_textbook_form_is_the_published_one(golden, book):
    golden("nst", "0").check(book.nst)


@pytest.mark.parametrize(
    ("student", "teacher", "form"),
    [
        ((2, 3, 4, 7), (2, 5, 4, 7), "channels"),
        ((1, 1, 9, 2), (1, 6, 9, 2), "channels"),
        ((2, 9, 2, 3), (2, 11, 2, 3), "positions"),
        ((3, 5, 1, 1), (3, 2, 1, 1), "positions"),
    ],
)
def test_textbook_by_channels_and_by_positions(book, monkeypatch, student, teacher, form):
    used = []
    for name in ("channels", "positions"):
        work = getattr(nst, f"_by_{name}")
        monkeypatch.setattr(nst, f"_by_{name}", lambda *a, name=name, work=work: (used.append(name), work(*a))[1])
    s, t = double(*student).requires_grad_(), double(*teacher)
    value, want = neuron_selectivity(s, t), book.nst(s, t)
    assert used == [form]
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))


@pytest.mark.parametrize(("degree", "c"), [(1, 0.0), (2, 0.5), (3, 1.0)])
def test_other_kernels(book, degree, c):
    s, t = double(2, 6, 2, 3).requires_grad_(), double(2, 4, 2, 3)
    value, want = NeuronSelectivity(degree=degree, c=c)(s, t), book.nst(s, t, degree, c)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))


def test_two_maps_at_an_angle():
    angle = 0.3
    s = 5 * torch.tensor([1.0, 0.0], dtype=torch.float64).view(1, 1, 1, 2)
    t = 0.2 * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64).view(1, 1, 1, 2)
    assert float(neuron_selectivity(s, t)) == pytest.approx(2 - 2 * math.cos(angle) ** 2, rel=1e-12)


def test_order_sign_and_size_of_channels_do_not_matter():
    s = double(2, 5, 4, 6)
    t = s[:, [3, 1, 4, 0, 2]] * double(2, 5, 1, 1)
    assert float(neuron_selectivity(s, t)) == pytest.approx(0, abs=1e-14)


def test_dead_channels_count_as_zero_vectors():
    s, t = double(2, 3, 4, 6), double(2, 4, 4, 6)
    s[:, 1] = 0
    alive = neuron_selectivity(s[:, [0, 2]], t)
    same_t = neuron_selectivity(torch.zeros_like(s), t)
    s.requires_grad_()
    value = neuron_selectivity(s, t)
    (grad,) = torch.autograd.grad(value, s)
    assert grad[:, 1].abs().max() == 0
    same_s = neuron_selectivity(s[:, [0, 2]], torch.zeros_like(t))
    cross = (same_t + same_s - alive) / 2
    torch.testing.assert_close(value, same_t + 4 / 9 * same_s - 2 * 2 / 3 * cross)


def test_ignored_positions_take_no_part(book):
    s, t = double(3, 3, 4, 6), double(3, 5, 4, 6)
    valid = torch.rand(3, 4, 6) < 0.5
    valid[:, 0, :2], valid[1] = True, False
    want = book.nst_loop(s, t, valid)
    s.movedim(1, -1)[~valid], t.movedim(1, -1)[~valid] = float("nan"), 1e4
    s.requires_grad_()
    value = neuron_selectivity(s, t, valid=valid)
    value.backward()
    torch.testing.assert_close(value.detach(), want)
    assert s.grad.movedim(1, -1)[~valid].abs().max() == 0


def test_half_gradients_of_faint_maps_are_finite():
    s = (1e-6 * torch.randn(1, 1, 2, 3)).half().requires_grad_()
    (grad,) = torch.autograd.grad(neuron_selectivity(s, torch.randn(1, 1, 2, 3)), s)
    assert grad.isfinite().all()


def test_several_taps_are_averaged():
    s, t = (double(2, 3, 4, 6), double(2, 5, 8, 3)), (double(2, 7, 4, 6), double(2, 2, 8, 3))
    want = (neuron_selectivity(s[0], t[0]) + neuron_selectivity(s[1], t[1])) / 2
    torch.testing.assert_close(NeuronSelectivity()(s, t), want)


def test_taps_of_several_sizes_share_the_mask_as_a_bind_gives_it():
    s, t = (tuple(torch.randn(2, 3, n, n, dtype=torch.float64) for n in (8, 4)) for _ in range(2))
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    valid[0, 4:] = False
    want = [neuron_selectivity(s[0], t[0], valid=valid), neuron_selectivity(s[1], t[1], valid=valid[:, ::2, ::2])]
    torch.testing.assert_close(NeuronSelectivity()(s, t, valid=valid), torch.stack(want).mean())


def test_mistakes_are_named():
    f = torch.randn(2, 3, 4, 6)
    with pytest.raises(UserError, match="as many taps"):
        NeuronSelectivity()((f, f), (f,))
    with pytest.raises(UserError, match="one N"):
        neuron_selectivity(f, f[:1])
    with pytest.raises(UserError, match="one height and width"):
        neuron_selectivity(f, f.transpose(2, 3))
    with pytest.raises(UserError, match="valid mask"):
        neuron_selectivity(f, f, valid=torch.ones(1, 4, 6))
    with pytest.raises(UserError, match="degree"):
        NeuronSelectivity(degree=0)
    with pytest.raises(UserError, match="c must"):
        NeuronSelectivity(c=-1.0)
    assert NeuronSelectivity.any_channels
