"""The overhaul's distance and margins against published values, loops, integrals and closed forms."""

from __future__ import annotations

import copy
import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from torch import Tensor, nn

from segkd.errors import UserError
from segkd.losses.ofd import Overhaul, batch_norm_of, margin_of, overhaul

SHAPES = [(2, 5, 3, 7), (1, 4, 9, 2), (3, 1, 1, 6)]


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_ofd.py"
    spec = importlib.util.spec_from_file_location("textbook_ofd", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def batch_norm(weight: Tensor, bias: Tensor) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(len(weight)).to(weight.dtype)
    norm.load_state_dict({"weight": weight, "bias": bias}, strict=False)
    return norm


def prepared(channels: int, module: nn.Module | None = None, **kwargs: str) -> Overhaul:
    loss = Overhaul(**kwargs)
    loss.prepare([(2, channels, 4, 5)], [(2, channels, 4, 5)], [module or nn.ReLU()])
    return loss.double()


@pytest.mark.parametrize(("name", "published"), [("ofd", "author"), ("ofd_mdistiller_feat_loss", "mdistiller")])
def test_golden(golden, golden_arrays, name, published):
    g, norm = golden(name), golden_arrays("ofd")
    n, c, h, w = g.student.shape
    scale = scale_of("ofd", published, N=n, C=c, H=h, W=w)
    loss = prepared(c, batch_norm(norm["param/bn_weight"], norm["param/bn_bias"]))
    torch.testing.assert_close(loss.margin, golden_arrays(name)["buf/margin"], rtol=1e-12, atol=0)
    g.check(lambda s, t: scale * loss(s, t))


def test_textbook_form_is_the_published_one(golden, golden_arrays, book):
    golden("ofd").check(lambda s, t: book.ofd_published(s, t, golden_arrays("ofd")["buf/margin"]))


@pytest.mark.parametrize("shape", SHAPES)
def test_textbook(book, shape):
    s, t, margin = double(*shape).requires_grad_(), double(*shape), -torch.rand(shape[1], dtype=torch.float64)
    n, c, h, w = shape
    scale = scale_of("ofd", "author", N=n, C=c, H=h, W=w)
    value, want = scale * overhaul(s, t, margin), book.ofd_published(s, t, margin)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))
    valid = torch.rand(n, h, w) < 0.6
    valid[0, 0, 0] = True
    value, want = overhaul(s, t, margin, valid), book.ofd_loop(s, t, margin, valid)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))


def test_published_scales_of_the_whole_method():
    image = 8 * 6 * 10
    got = [scale_of("ofd", name, N=3, C=8, H=6, W=10) for name in ("segmentation", "imagenet", "cifar")]
    assert got == pytest.approx([1e-5 * image, 1e-4 * image, 1e-3 * image], rel=1e-12)


def test_every_case_by_hand():
    # margin -1; teacher silent below it, silent above it, active; the student above and below the target
    teacher = torch.tensor([-5.0, -5.0, -0.5, -0.5, 2.0, 2.0], dtype=torch.float64).view(1, 1, 2, 3)
    student = torch.tensor([1.0, -2.0, 0.5, -0.75, 5.0, -1.0], dtype=torch.float64).view(1, 1, 2, 3)
    student.requires_grad_()
    value = overhaul(student, teacher, torch.tensor([-1.0]))
    assert float(value.detach()) == (4 + 0 + 1 + 0 + 9 + 9) / 6
    (grad,) = torch.autograd.grad(value, student)
    assert (grad.flatten() * 3).tolist() == pytest.approx([2, 0, 1, 0, 3, -3])


def test_a_silent_teacher_behind_its_relu_asks_nothing_of_a_negative_student():
    teacher, student = torch.zeros(1, 1, 1, 2).double(), torch.tensor([[[[-2.0, 3.0]]]]).double()
    assert float(overhaul(student, teacher, torch.tensor([0.0]))) == 9 / 2


def test_margins_are_integrals_of_the_normal_density(book):
    bias = torch.tensor([0.0, 1.0, -2.0, 3.0, -0.3])
    weight = torch.tensor([1.0, 0.5, 0.7, -1.5, 2.0])
    want = [book.mean_negative(b, abs(w)) for b, w in zip(bias.tolist(), weight.tolist(), strict=True)]
    torch.testing.assert_close(margin_of(batch_norm(weight, bias)), torch.tensor(want))
    assert want[0] == pytest.approx(-math.sqrt(2 / math.pi), rel=1e-6)


def test_margins_where_channels_are_never_negative_or_constant():
    bias = torch.tensor([4.0, 0.0, 2.0, -2.0, 3.1, 3.0])
    weight = torch.tensor([1.0, 0.0, 0.0, 0.0, -1.0, 1.0])
    margin = margin_of(batch_norm(weight, bias))
    torch.testing.assert_close(margin[:5], torch.tensor([-3.0, 0.0, 0.0, -2.0, -3.0]))
    assert -1 < float(margin[5]) < 0  # negative in 0.00135 of the cases
    plain = nn.BatchNorm2d(3, affine=False)
    torch.testing.assert_close(margin_of(plain), torch.full((3,), -math.sqrt(2 / math.pi)))


class Activating(nn.BatchNorm2d):
    """As timm has them: normalises and activates."""


class Residual(nn.Sequential):
    """Its output is not its last layer's."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def test_which_layer_gives_the_margins():
    norm, conv = nn.BatchNorm2d(4), nn.Conv2d(2, 4, 1)
    assert batch_norm_of(norm) is norm
    assert batch_norm_of(nn.Sequential(conv, norm)) is norm
    assert batch_norm_of(nn.Sequential(conv, nn.Sequential(norm, nn.Identity()))) is norm
    assert batch_norm_of(nn.Sequential(conv, norm, nn.ReLU())) is None
    assert batch_norm_of(Activating(4)) is None
    assert batch_norm_of(Residual(conv, norm)) is None
    assert batch_norm_of(nn.Sequential()) is None
    assert batch_norm_of(nn.ReLU()) is None
    assert prepared(4, norm).seen is None
    assert prepared(4, norm, margin="estimate").seen is not None
    assert prepared(3, norm).seen is not None  # the tap took some of its channels


def test_margins_without_batch_norm_are_the_mean_negative_responses():
    t = double(2, 3, 4, 5)
    t[:, 2] = t[:, 2].abs()
    want = torch.stack([t[:, 0][t[:, 0] < 0].mean(), t[:, 1][t[:, 1] < 0].mean(), torch.tensor(0.0).double()])
    s = double(2, 3, 4, 5)
    torch.testing.assert_close(prepared(3)(s, t), overhaul(s, t, want))
    valid = torch.zeros(2, 4, 5, dtype=torch.bool)
    valid[:, 1:3] = True
    want = overhaul(s[:, :, 1:3], t[:, :, 1:3], negatives(t[:, :, 1:3]))
    t[:, :, 3:] = float("nan")
    torch.testing.assert_close(prepared(3)(s, t, valid=valid), want)


def negatives(t: Tensor) -> Tensor:
    """(C,): mean of the negative numbers, 0 where there is none."""
    each = [channel[channel < 0] for channel in t.transpose(0, 1)]
    return torch.stack([x.mean() if len(x) else x.new_zeros(()) for x in each])


def test_the_estimate_takes_in_each_step_once():
    torch.manual_seed(0)
    batches = [double(2, 3, 4, 5) - k for k in range(4)]
    s, loss = double(2, 3, 4, 5), prepared(3)
    for part in batches[:2]:  # two accumulated batches of one step
        before = copy.deepcopy(loss.state_dict())
        torch.testing.assert_close(loss(s, part), overhaul(s, part, negatives(part)))
        torch.testing.assert_close(loss.state_dict(), before)
    loss.after_step()
    torch.testing.assert_close(loss.margin, negatives(torch.cat(batches[:2])))
    assert loss.seen.tolist() == (torch.cat(batches[:2]) < 0).sum((0, 2, 3)).tolist()
    loss.after_step()  # a step in which the term was off
    torch.testing.assert_close(loss.margin, negatives(torch.cat(batches[:2])))
    torch.testing.assert_close(loss(s, batches[2]), overhaul(s, batches[2], negatives(torch.cat(batches[:3]))))
    loss.after_step()
    known = negatives(torch.cat(batches[:3]))
    torch.testing.assert_close(loss.margin, known)
    loss.eval()
    torch.testing.assert_close(loss(s, batches[3]), overhaul(s, batches[3], known))
    loss.after_step()
    torch.testing.assert_close(loss.margin, known)


def test_nothing_is_learnt_in_eval():
    loss, s, t = prepared(3).eval(), double(2, 3, 4, 5), double(2, 3, 4, 5)
    torch.testing.assert_close(loss(s, t), overhaul(s, t, negatives(t)))
    loss.after_step()
    assert not loss.seen.any()
    assert not loss.margin.any()


def test_margins_are_saved_with_the_loss():
    loss = prepared(3)
    loss(double(2, 3, 4, 5), double(2, 3, 4, 5))
    loss.after_step()
    other = prepared(3)
    other.load_state_dict(loss.state_dict())
    s, t = double(2, 3, 4, 5), double(2, 3, 4, 5)
    torch.testing.assert_close(other(s, t), loss(s, t), rtol=0, atol=0)
    assert set(loss.state_dict()) == {"margin", "seen"}
    assert set(prepared(3, nn.BatchNorm2d(3)).state_dict()) == {"margin"}
    assert not list(loss.parameters())


@pytest.mark.parametrize("module", [nn.BatchNorm2d(3), nn.ReLU()])
def test_student_equal_to_teacher_gives_zero(module):
    t = double(2, 3, 4, 5).requires_grad_()
    value = prepared(3, module)(t, t.detach())
    value.backward()
    assert float(value.detach()) == 0
    assert t.grad.abs().max() == 0


def test_ignored_positions_take_no_part_even_where_they_are_not_numbers():
    s, t = double(2, 3, 4, 5), double(2, 3, 4, 5)
    valid = torch.ones(2, 4, 5, dtype=torch.bool)
    valid[:, 2:] = False
    loss = prepared(3, nn.BatchNorm2d(3))
    want = loss(s[:, :, :2], t[:, :, :2])
    s[:, :, 2:], t[:, :, 3:] = float("nan"), float("inf")
    s.requires_grad_()
    value = loss(s, t, valid=valid)
    value.backward()
    torch.testing.assert_close(value.detach(), want)
    assert s.grad[:, :, 2:].abs().max() == 0


def test_mistakes_are_named():
    f = torch.randn(2, 3, 4, 5)
    with pytest.raises(UserError, match="prepare"):
        Overhaul()(f, f)
    with pytest.raises(UserError, match="'estimate'"):
        Overhaul(margin="estimated")
    with pytest.raises(UserError, match="is a ReLU, not a BatchNorm of 3 channels"):
        prepared(3, margin="bn")
    with pytest.raises(UserError, match="one tap"):
        Overhaul().prepare([f.shape] * 2, [f.shape] * 2, [nn.ReLU()] * 2)
    with pytest.raises(UserError, match="Conv1x1"):
        prepared(3)(f[:, :2], f)
    with pytest.raises(UserError, match="made for responses"):
        prepared(2)(f, f)
    with pytest.raises(UserError, match="valid mask is"):
        prepared(3)(f, f, valid=torch.ones(2, 20))
    with pytest.raises(UserError, match="one margin per channel"):
        overhaul(f, f, torch.zeros(1))
    with pytest.raises(UserError, match=r"\(N, C, H, W\)"):
        overhaul(f[0], f[0], torch.zeros(3))
