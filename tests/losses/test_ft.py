"""Factor transfer against published values, loops and closed forms, and its first stage."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from made import Made
from scales import scale_of
from torch import nn
from traits import Trait

from segkd.errors import UserError
from segkd.losses.base import WithCritic, WithFirstStage
from segkd.losses.ft import FactorTransfer, factor_transfer

# two networks stand before the comparison: their borders see a tiled map otherwise
TRAIT = Trait(channels=4, zero=False, tiled=False)


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_ft.py"
    spec = importlib.util.spec_from_file_location("textbook_ft", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def ready(student: int = 3, teacher: int = 4, **kwargs: float) -> FactorTransfer:
    loss = FactorTransfer(**kwargs)
    loss.prepare([(1, student, 4, 4)], [(1, teacher, 4, 4)], [nn.Identity()])
    return loss.double()


@pytest.mark.parametrize("published", ["authors", "mmrazor"])
def test_golden_of_the_papers_form(golden, published):
    g = golden("ft_paper_mmrazor")
    _, c, h, w = g.student.shape
    scale = scale_of("ft", published, C=c, H=h, W=w, p=1)
    g.check(lambda s, t: scale * factor_transfer(s, t))


def test_golden_of_repdistiller_is_ours_of_collapsed_factors(golden):
    g = golden("ft_repdistiller_p1_2_p2_1")
    _, _, h, w = g.student.shape
    scale = scale_of("ft", "repdistiller", H=h, W=w, p=1)
    g.check(lambda s, t: scale * factor_transfer(s.square().mean(1, keepdim=True), t.square().mean(1, keepdim=True)))
    assert not torch.isclose(scale * factor_transfer(g.student, g.teacher), g.value, rtol=1e-2)


def test_fewer_whole_factors_are_made_than_by_the_textbook_form(book):
    s, t = double(2, 4, 5, 6).requires_grad_(), double(2, 4, 5, 6)
    made = []
    for form in (factor_transfer, book.ft):
        with Made() as seen:
            form(s, t).backward()
        made.append(sum(numbers >= s.numel() for _, numbers in seen.tensors))
    assert made[0] < made[1]


def test_textbook_forms_are_the_published_ones(golden, book):
    golden("ft_paper_mmrazor").check(book.ft)
    golden("ft_repdistiller_p1_2_p2_1").check(book.ft_repdistiller)


@pytest.mark.parametrize("shape", [(2, 5, 4, 7), (1, 3, 9, 2), (3, 1, 1, 5)])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_textbook(book, shape, p):
    _, c, h, w = shape
    s, t = double(*shape).requires_grad_(), double(*shape)
    scale = scale_of("ft", "authors", C=c, H=h, W=w, p=p)
    value, want = scale * factor_transfer(s, t, p), book.ft(s, t, p)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))


@pytest.mark.parametrize(("student", "teacher", "size"), [(3, 4, (4, 7)), (5, 6, (3, 1)), (2, 1, (5, 5))])
def test_whole_loss_against_the_textbook(book, student, teacher, size):
    loss, (h, w) = ready(student, teacher), size
    s, t = double(2, student, h, w).requires_grad_(), double(2, teacher, h, w)
    assert loss.paraphraser is not None
    assert loss.translator is not None
    factors = loss.translator[-2].weight.shape[0]
    assert factors == max(1, round(teacher / 2))
    own = dict(loss.translator.named_parameters())
    frozen = {key: x.detach() for key, x in loss.paraphraser.encoder.named_parameters()}
    value = scale_of("ft", "authors", C=factors, H=h, W=w, p=1) * loss(s, t)
    want = book.ft(book.encode(s, own), book.encode(t, frozen))
    torch.testing.assert_close(value, want)
    inputs = [s, *own.values()]
    for got, wanted in zip(torch.autograd.grad(value, inputs), torch.autograd.grad(want, inputs), strict=True):
        torch.testing.assert_close(got, wanted)


def test_two_factors_by_hand():
    s = torch.tensor([3.0, 4.0], dtype=torch.float64).view(1, 2, 1, 1)
    t = torch.tensor([1.0, 0.0], dtype=torch.float64).view(1, 2, 1, 1)
    want = math.sqrt(2) * (0.4 + 0.8) / 2
    assert float(factor_transfer(s, t)) == pytest.approx(want, rel=1e-12)
    assert float(factor_transfer(s, 7 * s)) == pytest.approx(0, abs=1e-12)
    assert float(factor_transfer(s, -s, p=2.0)) == pytest.approx(4, rel=1e-12)


def test_the_teachers_factor_gets_no_gradient():
    s, t = double(2, 3, 4, 5).requires_grad_(), double(2, 3, 4, 5).requires_grad_()
    factor_transfer(s, t).backward()
    assert s.grad.any()
    assert t.grad is None


def test_value_of_factors_repeated_and_tiled():
    s, t = double(2, 3, 4, 5), double(2, 3, 4, 5)
    want = factor_transfer(s, t)
    for repeats in [(2, 1, 1, 1), (1, 2, 1, 1), (1, 1, 2, 3)]:
        torch.testing.assert_close(factor_transfer(s.repeat(repeats), t.repeat(repeats)), want)


def test_zero_and_half_factors_stay_finite():
    for scale in (0.0, 1e-7, 1e4):
        s = torch.full((1, 1, 1, 2), scale).half().requires_grad_()
        value = factor_transfer(s, torch.randn(1, 1, 1, 2).half())
        (grad,) = torch.autograd.grad(value, s)
        assert value.isfinite()
        assert grad.isfinite().all()


def test_ignored_positions_take_no_part(book):
    s, t = double(3, 4, 4, 6), double(3, 4, 4, 6)
    valid = torch.rand(3, 4, 6) < 0.5
    valid[:, 0, 0], valid[1] = True, False
    want = book.ft_loop(s, t, valid)
    s.movedim(1, -1)[~valid], t.movedim(1, -1)[~valid] = float("nan"), 1e4
    s.requires_grad_()
    value = factor_transfer(s, t, valid=valid)
    value.backward()
    torch.testing.assert_close(value.detach(), want)
    assert s.grad.movedim(1, -1)[~valid].abs().max() == 0


def test_ignored_features_reach_nothing(book):
    loss, s, t = ready(), double(2, 3, 5, 6), double(2, 4, 5, 6)
    valid = torch.rand(2, 5, 6) < 0.6
    assert loss.paraphraser is not None
    assert loss.translator is not None
    f_s = book.encode(s * valid[:, None], dict(loss.translator.named_parameters()))
    f_t = book.encode(t * valid[:, None], dict(loss.paraphraser.encoder.named_parameters()))
    want = book.ft_loop(f_s, f_t, valid)
    s.movedim(1, -1)[~valid], t.movedim(1, -1)[~valid] = float("nan"), float("inf")
    s.requires_grad_()
    value = loss(s, t, valid=valid)
    value.backward()
    torch.testing.assert_close(value, want)
    assert s.grad.movedim(1, -1)[~valid].abs().max() == 0
    assert all(p.grad.isfinite().all() for p in loss.translator.parameters())


def test_first_stage_learns_to_reconstruct_and_only_that(book):
    torch.manual_seed(0)
    loss = ready(3, 4)
    assert isinstance(loss, WithFirstStage)
    assert not isinstance(loss, WithCritic)
    assert loss.paraphraser is not None
    mixing = double(2, 4)
    feature = torch.einsum("fc,nfhw->nchw", mixing, double(2, 2, 6, 8).abs())
    encoder, decoder = (dict(part.named_parameters()) for part in (loss.paraphraser.encoder, loss.paraphraser.decoder))
    want = (book.decode(book.encode(feature, encoder), decoder) - feature).square().mean()
    torch.testing.assert_close(loss.first_stage_loss(feature), want)
    own = loss.first_stage_parameters()
    assert {id(p) for p in own} == {id(p) for p in loss.paraphraser.parameters()}
    optimizer = torch.optim.Adam(own, lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        value = loss.first_stage_loss((feature,))
        value.backward()
        optimizer.step()
    assert value.detach() < 0.7 * want.detach()
    assert loss.translator is not None
    assert all(p.grad is None for p in loss.translator.parameters())


@pytest.mark.parametrize("frozen", [True, False])
def test_the_main_training_leaves_the_paraphraser_alone(frozen):
    loss = ready()
    for parameter in loss.first_stage_parameters():
        parameter.requires_grad_(not frozen)
    loss(double(2, 3, 4, 5).requires_grad_(), double(2, 4, 4, 5)).backward()
    assert all(p.grad is None for p in loss.first_stage_parameters())
    assert loss.translator is not None
    assert all(p.grad is not None and p.grad.any() for p in loss.translator.parameters())


def test_parts_are_registered_and_do_not_move_the_random_state():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    loss = ready(4, 4)
    assert torch.equal(state, torch.get_rng_state())
    weights = loss.state_dict()
    assert len(weights) == 2 * (3 + 3 + 3)
    assert not torch.equal(weights["translator.0.weight"], weights["paraphraser.encoder.0.weight"])
    assert all(torch.equal(a, b) for a, b in zip(loss.parameters(), ready(4, 4).parameters(), strict=True))


def test_first_stage_under_autocast_and_in_half():
    feature = torch.randn(2, 4, 4, 6).bfloat16().requires_grad_()
    loss = ready().float()
    own = loss.first_stage_parameters()
    want = loss.first_stage_loss(feature.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss.first_stage_loss(feature)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, want, rtol=1e-6, atol=0)
    for got, wanted in zip(torch.autograd.grad(value, own), torch.autograd.grad(want, own), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-7)
    loss.first_stage_loss(feature).backward()
    assert feature.grad is None


def test_mistakes_are_named():
    s, t = torch.randn(2, 3, 4, 6), torch.randn(2, 4, 4, 6)
    with pytest.raises(UserError, match="prepare"):
        FactorTransfer()(s, t)
    with pytest.raises(UserError, match="prepare"):
        FactorTransfer().first_stage_parameters()
    with pytest.raises(UserError, match="one N, H and W"):
        ready().float()(s, t[..., 1:])
    with pytest.raises(UserError, match="valid mask is"):
        ready().float()(s, t, valid=torch.ones(2, 24))
    with pytest.raises(UserError, match="student is"):
        factor_transfer(s, t)
    with pytest.raises(UserError, match=r"factors \(N, C, H, W\)"):
        factor_transfer(s[0], s[0])
    with pytest.raises(UserError, match="one tap"):
        FactorTransfer().prepare([(2, 3, 4, 6)] * 2, [(2, 3, 4, 6)] * 2, [])
    with pytest.raises(UserError, match="k, the factor"):
        FactorTransfer(k=0.0)
    with pytest.raises(UserError, match="p must be"):
        FactorTransfer(p=0.5)
