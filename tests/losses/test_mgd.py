"""MGD against published values, closed forms and the draw's own statistics."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from torch import nn
from torch.nn import functional as F
from traits import Trait

from segkd.errors import UserError
from segkd.losses.mgd import MaskedGenerative, masked_generative

# a random block stands between student and teacher; its draw and its borders see a tiled map otherwise
TRAIT = Trait(zero=False, tiled=False)

ALPHA = 2e-5


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_mgd.py"
    spec = importlib.util.spec_from_file_location("textbook_mgd", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def ready(channels: int, **kwargs: float) -> MaskedGenerative:
    loss = MaskedGenerative(**kwargs)
    loss.prepare([(1, channels, 4, 4)], [(1, channels, 4, 4)], [nn.Identity()])
    return loss.double()


def golden_check(arrays, form):
    """Value and all gradients of ``form(aligned student, teacher, generation's parameters)`` equal the golden ones."""
    given = {"s": arrays["in/s"]} | {k[6:]: v for k, v in arrays.items() if k.startswith("param/")}
    given = {key: value.clone().requires_grad_() for key, value in given.items()}
    aligned = F.conv2d(given["s"], given["align.weight"], given["align.bias"])
    block = {key[11:]: value for key, value in given.items() if key.startswith("generation.")}
    value = form(aligned, arrays["in/t"], block)
    torch.testing.assert_close(value.detach(), arrays["out/loss"], rtol=1e-9, atol=1e-12)
    for key, grad in zip(given, torch.autograd.grad(value, list(given.values())), strict=True):
        want = arrays["grad_loss/s" if key == "s" else f"grad_loss/param_{key}"]
        torch.testing.assert_close(grad, want, rtol=1e-7, atol=1e-14)


def test_golden(golden_arrays):
    arrays = golden_arrays("mgd")
    _, c, h, w = arrays["in/t"].shape
    loss, scale = ready(c), scale_of("mgd", "mgd", C=c, H=h, W=w)

    def form(student, teacher, block):
        own = {f"generation.{key}": value for key, value in block.items()}
        inputs, draw = (student, teacher), {"draw": arrays["buf/uniform"]}
        return ALPHA * scale * torch.func.functional_call(loss, own, inputs, draw)

    golden_check(arrays, form)


def test_textbook_form_is_the_published_one(golden_arrays, book):
    arrays = golden_arrays("mgd")
    golden_check(arrays, lambda s, t, block: book.mgd(s, t, arrays["buf/uniform"], block))


@pytest.mark.parametrize(("shape", "share"), [((2, 3, 4, 7), 0.75), ((1, 6, 9, 2), 0.3), ((3, 1, 1, 5), 0.0)])
def test_textbook(book, shape, share):
    _, c, h, w = shape
    s, t, loss = double(*shape).requires_grad_(), double(*shape), ready(c, lambda_mgd=share)
    draw, scale = loss.sample(shape, seed=3), scale_of("mgd", "mgd", C=c, H=h, W=w)
    assert loss.generation is not None
    block = dict(loss.generation.named_parameters())
    value, want = scale * loss(s, t, draw=draw), book.mgd(s, t, draw, block, share, alpha=1.0)
    torch.testing.assert_close(value, want)
    own = [s, *block.values()]
    for got, wanted in zip(torch.autograd.grad(value, own), torch.autograd.grad(want, own), strict=True):
        torch.testing.assert_close(got, wanted)


def test_by_hand():
    block = nn.Conv2d(1, 1, 1, bias=False).double()
    block.weight.data.fill_(2.0)
    s = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).view(1, 1, 1, 4)
    hidden = torch.tensor([False, True, False, True]).view(1, 1, 1, 4)
    value = masked_generative(s, torch.ones_like(s), block, hidden).detach()
    assert float(value) == pytest.approx((1.0 + 1.0 + 25.0 + 1.0) / 4)


def test_hidden_positions_reach_the_value_through_their_neighbours_alone():
    s, t, loss = double(2, 3, 5, 6), double(2, 3, 5, 6), ready(3)
    draw = torch.zeros(2, 1, 5, 6)
    draw[:, :, 2, 3] = 0.5
    want = loss(s, t, draw=draw)
    s[:, :, 2, 3] = 1e3
    s.requires_grad_()
    value = loss(s, t, draw=draw)
    torch.testing.assert_close(value, want)
    (grad,) = torch.autograd.grad(value, s)
    assert grad[:, :, 2, 3].abs().max() == 0
    assert grad[:, :, 2, 2].abs().min() > 0


def test_the_perfect_block_gives_zero():
    loss = ready(3, lambda_mgd=0.0)
    assert loss.generation is not None
    for conv in (loss.generation[0], loss.generation[2]):
        nn.init.dirac_(conv.weight)
        nn.init.zeros_(conv.bias)
    s = double(2, 3, 4, 5).abs()
    assert float(loss(s, s, draw=loss.sample((2, 3, 4, 5), seed=0)).detach()) == 0


def test_lambda_is_the_share_that_is_hidden_by_sample_number():
    loss = MaskedGenerative(lambda_mgd=0.75)
    draw = loss.sample((3, 5, 100, 100), seed=1, index=[7, 8, 7])
    assert float((draw > 0.25).float().mean()) == pytest.approx(0.75, abs=0.01)
    assert torch.equal(draw[0], draw[2])
    assert not torch.equal(draw[0], draw[1])
    assert torch.equal(draw[1:2], loss.sample((1, 2, 100, 100), seed=1, index=[8]))
    assert not torch.equal(draw[1:2], loss.sample((1, 2, 100, 100), seed=2, index=[8]))


def test_ignored_positions_take_no_part(book):
    s, t, loss = double(2, 3, 5, 6), double(2, 3, 5, 6), ready(3)
    valid = torch.rand(2, 5, 6) < 0.6
    draw = loss.sample((2, 3, 5, 6), seed=4)
    assert loss.generation is not None
    seen = s * ((draw <= 0.25) & valid[:, None])
    made = book.generate(seen, dict(loss.generation.named_parameters()))
    want = (made - t).movedim(1, -1)[valid].square().mean()
    s.movedim(1, -1)[~valid], t.movedim(1, -1)[~valid] = float("nan"), float("inf")
    s.requires_grad_()
    value = loss(s, t, draw=draw, valid=valid)
    value.backward()
    torch.testing.assert_close(value, want)
    assert s.grad.movedim(1, -1)[~valid].abs().max() == 0
    assert all(p.grad.isfinite().all() for p in loss.parameters())


def test_the_block_is_registered_and_does_not_move_the_random_state():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    loss = ready(4)
    assert torch.equal(state, torch.get_rng_state())
    again = ready(4)
    names = ["generation.0.weight", "generation.0.bias", "generation.2.weight", "generation.2.bias"]
    assert list(loss.state_dict()) == names
    assert all(torch.equal(a, b) for a, b in zip(loss.parameters(), again.parameters(), strict=True))
    assert not torch.equal(loss.state_dict()[names[0]], loss.state_dict()[names[2]])
    torch.manual_seed(6)
    assert not torch.equal(ready(4).state_dict()[names[0]], loss.state_dict()[names[0]])


def test_mistakes_are_named():
    f = torch.randn(2, 3, 4, 6)
    loss = ready(3).float()
    draw = loss.sample((2, 3, 4, 6), seed=0)
    with pytest.raises(UserError, match="prepare"):
        MaskedGenerative()(f, f, draw=draw)
    with pytest.raises(UserError, match="needs a draw"):
        loss(f, f)
    with pytest.raises(UserError, match="the draw is"):
        loss(f, f, draw=draw[:, :, 1:])
    with pytest.raises(UserError, match="Conv1x1"):
        loss(f, f[:, :2], draw=draw)
    with pytest.raises(UserError, match=r"\(N, C, H, W\)"):
        loss(f[0], f[0], draw=draw)
    with pytest.raises(UserError, match="valid mask is"):
        loss(f, f, draw=draw, valid=torch.ones(2, 24))
    with pytest.raises(UserError, match="one tap"):
        MaskedGenerative().prepare([(2, 3, 4, 6)] * 2, [(2, 3, 4, 6)] * 2, [])
    with pytest.raises(UserError, match="lambda_mgd"):
        MaskedGenerative(lambda_mgd=1.0)
