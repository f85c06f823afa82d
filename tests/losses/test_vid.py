"""Variational information distillation against published values, densities and closed forms."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from torch import Tensor, nn
from traits import Trait

from segkd.errors import UserError
from segkd.losses.vid import VID, variational_information

# its regressor predicts the teacher from the student's feature, so equal features are no fit; the variance starts
# at 5, where the value is above 0
TRAIT = Trait(channels=4, zero=False)

PARAMETERS = ("log_scale", "regressor.0.weight", "regressor.2.weight", "regressor.4.weight")


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_vid.py"
    spec = importlib.util.spec_from_file_location("textbook_vid", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepared(student: Sequence[int], teacher: Sequence[int], **kwargs: float) -> VID:
    loss = VID(**kwargs)
    loss.prepare([tuple(student)], [tuple(teacher)], [nn.Identity()])
    return loss.double()


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture
def published(golden_arrays) -> tuple[VID, dict[str, Tensor]]:
    """The loss with the golden case's parameters, and the case."""
    case = golden_arrays("vid")
    loss = prepared(case["in/s"].shape, case["in/t"].shape, num_mid_channel=6)
    loss.load_state_dict({name: case[f"param/{name}"] for name in PARAMETERS})
    return loss, case


def test_golden(golden, published):
    loss, case = published
    scale = scale_of("vid", "repdistiller")
    golden("vid").check(lambda s, t: scale * loss(s, t))


def test_golden_gradients_of_the_parameters(published):
    loss, case = published
    grads = torch.autograd.grad(loss(case["in/s"], case["in/t"]), [loss.get_parameter(p) for p in PARAMETERS])
    for name, grad in zip(PARAMETERS, grads, strict=True):
        torch.testing.assert_close(grad, case[f"grad_loss/param_{name}"], rtol=1e-7, atol=1e-14)


def test_textbook_form_is_the_published_one(golden, golden_arrays, book):
    case = golden_arrays("vid")
    scale, *weights = (case[f"param/{name}"] for name in PARAMETERS)
    golden("vid").check(lambda s, t: book.vid_published(s, t, weights, scale))


@pytest.mark.parametrize(("student", "channels"), [((2, 5, 3, 7), 3), ((1, 4, 9, 2), 6), ((3, 1, 1, 6), 1)])
def test_textbook(book, student, channels):
    s, t = double(*student), 3 * double(student[0], channels, *student[2:])
    loss = prepared(s.shape, t.shape)
    assert loss.log_scale is not None
    loss.log_scale.data += double(channels)
    own = [loss.get_parameter(name) for name in PARAMETERS]
    inputs = [s.requires_grad_(), *own]
    value, want = loss(s, t), book.vid_published(s, t, own[1:], own[0])
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, inputs), torch.autograd.grad(want, inputs))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 7, 2)])
def test_textbook_of_masked_positions(book, shape):
    mean, t, variance = double(*shape), double(*shape), double(shape[1]).exp()
    valid = torch.rand(shape[0], *shape[2:]) < 0.6
    valid[0, 0, 0] = True
    torch.testing.assert_close(
        variational_information(mean, t, variance, valid), book.vid_loop(mean, t, variance, valid)
    )


def test_one_position_by_hand():
    mean, teacher = torch.zeros(1, 2, 1, 1), torch.tensor([3.0, 1.0]).view(1, 2, 1, 1)
    value = variational_information(mean, teacher, torch.tensor([9.0, 0.5]))
    assert float(value) == pytest.approx(((1 + math.log(9)) / 2 + (2 + math.log(0.5)) / 2) / 2, rel=1e-6)


def test_the_best_variance_is_the_mean_squared_difference():
    mean, t = double(2, 3, 4, 5), double(2, 3, 4, 5)
    squares = (mean - t).square().mean((0, 2, 3))
    variance = squares.clone().requires_grad_()
    value = variational_information(mean, t, variance)
    torch.testing.assert_close(value.detach(), ((1 + squares.log()) / 2).mean())
    assert float(torch.autograd.grad(value, variance)[0].abs().max()) < 1e-12


@pytest.mark.parametrize(("init_pred_var", "eps"), [(5.0, 1e-5), (0.01, 1e-5), (200.0, 0.5)])
def test_the_variance_starts_as_asked(init_pred_var, eps):
    loss = VID(init_pred_var=init_pred_var, eps=eps)
    loss.prepare([(1, 2, 3, 3)], [(1, 4, 3, 3)], [nn.Identity()])
    torch.testing.assert_close(loss.variance(), torch.full((4,), init_pred_var))
    if init_pred_var == 5.0:
        torch.testing.assert_close(loss.log_scale.detach(), torch.full((4,), 4.9932291827136215))


def test_extreme_variances_stay_finite_and_above_eps():
    loss = VID()
    loss.prepare([(2, 2, 3, 3)], [(2, 4, 3, 3)], [nn.Identity()])
    loss.log_scale.data[:] = torch.tensor([100.0, 1e4, -100.0, -1e4])
    torch.testing.assert_close(loss.variance(), torch.tensor([100.0, 1e4, 1e-5, 1e-5]))
    value = loss(torch.randn(2, 2, 3, 3), torch.randn(2, 4, 3, 3))
    value.backward()
    assert value.isfinite()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


def test_parts_are_registered_and_the_variance_is_not_decayed():
    loss = prepared((2, 5, 3, 3), (2, 7, 3, 3))
    assert {name for name, _ in loss.named_parameters()} == set(PARAMETERS) == set(loss.state_dict())
    assert set(loss.no_weight_decay) == {"log_scale"}
    assert [tuple(loss.get_parameter(p).shape[:2]) for p in PARAMETERS[1:]] == [(7, 5), (7, 7), (7, 7)]


def test_preparing_leaves_the_random_state_and_follows_the_seed():
    first, same, other = [], [], []
    for seed, kept in ((3, first), (3, same), (4, other)):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        loss = prepared((2, 5, 3, 3), (2, 7, 3, 3))
        assert torch.equal(torch.random.get_rng_state(), before)
        kept.append(loss.get_parameter("regressor.0.weight").detach())
    torch.testing.assert_close(first, same)
    assert not torch.equal(first[0], other[0])
    assert float(first[0].abs().max()) <= 1 / math.sqrt(5)


def test_ignored_positions_take_no_part_even_where_they_are_not_numbers():
    s, t = double(2, 3, 4, 5), double(2, 2, 4, 5)
    loss = prepared(s.shape, t.shape)
    valid = torch.ones(2, 4, 5, dtype=torch.bool)
    valid[:, 2:] = False
    want = torch.autograd.grad(loss(s[:, :, :2], t[:, :, :2]), list(loss.parameters()))
    s[:, :, 2:], t[:, :, 3:] = float("nan"), float("inf")
    s.requires_grad_()
    value = loss(s, t, valid=valid)
    value.backward()
    torch.testing.assert_close(tuple(p.grad for p in loss.parameters()), want)
    assert s.grad[:, :, 2:].abs().max() == 0


def test_mistakes_are_named():
    f = torch.randn(2, 3, 4, 5)
    with pytest.raises(UserError, match="prepare"):
        VID()(f, f)
    with pytest.raises(UserError, match="prepare"):
        VID().variance()
    with pytest.raises(UserError, match="num_mid_channel"):
        VID(num_mid_channel=0)
    with pytest.raises(UserError, match="init_pred_var must be above"):
        VID(init_pred_var=1e-6)
    with pytest.raises(UserError, match="eps"):
        VID(eps=0)
    with pytest.raises(UserError, match="one tap"):
        VID().prepare([f.shape] * 2, [f.shape] * 2, [nn.Identity()] * 2)
    with pytest.raises(UserError, match="tapped ones are"):
        VID().prepare([(2, 3)], [(2, 3)], [nn.Identity()])
    loss = VID()
    loss.prepare([f.shape], [f.shape], [nn.Identity()])
    with pytest.raises(UserError, match=r"made for a student's feature \(N, 3, H, W\)"):
        loss(f[:, :2], f)
    with pytest.raises(UserError, match="resize"):
        loss(f[..., :2], f)
    with pytest.raises(UserError, match="valid mask is"):
        loss(f, f, valid=torch.ones(2, 20))
    with pytest.raises(UserError, match="one variance per channel"):
        variational_information(f, f, torch.ones(1))
    with pytest.raises(UserError, match=r"\(N, C, H, W\)"):
        variational_information(f[0], f[0], torch.ones(3))
