"""The critic of holistic distillation against published values, and what its training promises."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from scales import scale_of
from torch import Tensor, nn
from torch.nn import functional as F
from traits import Trait

from segkd.errors import UserError
from segkd.losses.base import WithCritic
from segkd.losses.skd_critic import Critic
from segkd.losses.skd_holistic import (
    Holistic,
    condition,
    critic_term,
    generator_term,
    gradient_penalty,
)

# the student's term has no minimum and does not look at the teacher; the critic sees where a tiled map's tiles meet
# and judges whole maps, without a mask; the contract has no image at hand
TRAIT = Trait(
    kwargs={"conv_dim": 4, "conditional": False},
    valid=False,
    zero=False,
    tiled=False,
    lowest=-math.inf,
    smallest=(1, 2, 1, 1),
)

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def book() -> ModuleType:
    spec = importlib.util.spec_from_file_location("textbook_skd", TESTS / "textbook" / "forms_skd_holistic.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def names() -> list[str]:
    described = json.loads((TESTS / "golden" / "losses.json").read_text())["cases"]
    return described["skd_discriminator_full"]["hyper"]["names"]


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def number(value: Tensor) -> float:
    return float(value.detach())


def pictures(samples: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (samples, 3, height, width), dtype=torch.uint8)


def made(classes: int = 5, dtype: torch.dtype = torch.float64, **kwargs: Any) -> Holistic:
    loss = Holistic(**{"conv_dim": 8, **kwargs})
    loss.prepare([(2, classes, 20, 24)], [(2, classes, 20, 24)], [nn.Identity()])
    with torch.no_grad():
        for attention in loss.critic.attentions:
            attention.gamma.fill_(0.3)  # as after some training; 0 would hide the attention
    return loss.to(dtype)


def load(critic: Critic, p: dict[str, Tensor]) -> Critic:
    """A critic with parameters by their published names."""
    found = {"score.weight": p["last.0.weight"], "score.bias": p["last.0.bias"]}
    for k in range(4):
        for ours, theirs in dict(weight="weight_bar", bias="bias", u="weight_u", v="weight_v").items():
            found[f"stages.{k}.{ours}"] = p[f"l{k + 1}.0.module.{theirs}"]
    for k in range(2):
        found[f"attentions.{k}.gamma"] = p[f"attn{k + 1}.gamma"]
        for part in ("query", "key", "value"):
            for kind in ("weight", "bias"):
                found[f"attentions.{k}.{part}.{kind}"] = p[f"attn{k + 1}.{part}_conv.{kind}"]
    critic.double().load_state_dict(found)
    return critic


def published(critic: Critic) -> dict[str, Tensor]:
    """A critic's parameters by their published names."""
    found = {"last.0.weight": critic.score.weight, "last.0.bias": critic.score.bias}
    for k, stage in enumerate(critic.stages):
        own = dict(weight_bar=stage.weight, bias=stage.bias, weight_u=stage.u, weight_v=stage.v)
        found |= {f"l{k + 1}.0.module.{name}": value for name, value in own.items()}
    for k, attention in enumerate(critic.attentions):
        found[f"attn{k + 1}.gamma"] = attention.gamma
        for part in ("query", "key", "value"):
            found[f"attn{k + 1}.{part}_conv.weight"] = getattr(attention, part).weight
            found[f"attn{k + 1}.{part}_conv.bias"] = getattr(attention, part).bias
    return found


# ---- published values


@pytest.mark.parametrize("of", ["ours", "textbook"])
def test_golden_critic(golden_arrays, book, names, of):
    case, p = golden_arrays("skd_discriminator_full"), book.ruled(names, 19, 64)
    ours = load(Critic(19), p)
    for key, shift, width in (("d", 0.5, 65), ("d_nonsquare", 1.5, 129)):
        x = book.whitened((6 * book.hashed(2 * 19 * 65 * width, shift)).reshape(2, 19, 65, width), p)
        if of == "ours":
            ours.iterate()
            score = ours(x)
        else:
            book.power_iteration(p)
            score = book.critic(x, p)
        want = case[f"out/{key}"].reshape(score.shape)
        torch.testing.assert_close(score.detach(), want, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("of", ["ours", "textbook"])
@pytest.mark.parametrize("kind", ["wgan-gp", "hinge"])
def test_golden_critic_terms(golden_arrays, book, kind, of):
    case = golden_arrays(f"skd_adv_D_{kind}")
    s, t = (case[f"in/{side}"].requires_grad_() for side in "st")
    value = (critic_term if of == "ours" else book.critic_term)(s, t, kind)
    scale = scale_of("skd_holistic", "skd")
    torch.testing.assert_close(scale * value, case["out/loss"], rtol=1e-9, atol=0)
    for x, side in ((s, "s"), (t, "t")):
        (grad,) = torch.autograd.grad(scale * value, x, retain_graph=True)
        torch.testing.assert_close(grad, case[f"grad_loss/{side}"], rtol=1e-7, atol=0)


def test_golden_generator_term(golden_arrays):
    case = golden_arrays("skd_adv_G_hinge")
    s = case["in/s"].requires_grad_()
    value = scale_of("skd_holistic", "skd") * generator_term(s)
    torch.testing.assert_close(value, case["out/loss"], rtol=1e-9, atol=0)
    torch.testing.assert_close(torch.autograd.grad(value, s)[0], case["grad_loss/s"], rtol=1e-7, atol=0)


@pytest.mark.parametrize("of", ["ours", "textbook"])
def test_golden_gradient_penalty(golden_arrays, book, of):
    case = golden_arrays("skd_gradient_penalty")
    p = {name: case[f"param/{name}"].requires_grad_() for name in ("c1.weight", "c1.bias", "c2.weight", "c2.bias")}

    def toy(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, p["c1.weight"], p["c1.bias"], 2, 1).tanh(), p["c2.weight"], p["c2.bias"])

    s, t, alpha = case["in/s"], case["in/t"], case["buf/alpha"]
    summed = gradient_penalty(lambda x: toy(x).flatten(1).sum(1), s, t, alpha)  # the published one is of the sum
    value = 10.0 * (summed if of == "ours" else book.penalty(toy, s, t, alpha))
    torch.testing.assert_close(value, case["out/loss"], rtol=1e-9, atol=0)
    grads = torch.autograd.grad(value, list(p.values()), allow_unused=True, materialize_grads=True)
    for name, grad in zip(p, grads, strict=True):
        torch.testing.assert_close(grad, case[f"grad_loss/param_{name}"], rtol=1e-7, atol=1e-12)


# ---- the whole against the textbook, at other shapes


@pytest.mark.parametrize("shape", [(2, 5, 64, 70), (3, 2, 81, 66)])
@pytest.mark.parametrize("kind", ["wgan-gp", "hinge"])
def test_textbook(book, shape, kind):
    n, c, h, w = shape
    loss = made(c, kind=kind)
    s, t, image = double(*shape).requires_grad_(), double(*shape), pictures(n, 2 * h, 2 * w)
    p = published(loss.critic)
    picture = image.double().reshape(n, 3, h, 2, w, 2).mean((3, 5)) / 127.5 - 1
    p_s, p_t = torch.softmax(s, 1), torch.softmax(t, 1)

    def judge(x: Tensor) -> Tensor:
        return book.critic(torch.cat([x, picture], 1), p)

    value, want = loss(s, t, image=image), -judge(p_s).mean()
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))
    draw = loss.sample(shape, seed=3)
    value = loss.critic_loss(s.detach(), t, image=image, draw=draw)
    want = book.critic_term(judge(p_s.detach()), judge(p_t), kind)
    if kind == "wgan-gp":
        alpha = draw.double().reshape(n, 1, 1, 1)
        want = want + 10 * book.penalty(lambda x: judge(x).mean((1, 2, 3)), p_s.detach(), p_t, alpha)
    torch.testing.assert_close(value, want)
    own = loss.critic_parameters()
    got = torch.autograd.grad(value, own, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(got, torch.autograd.grad(want, own, allow_unused=True, materialize_grads=True))


# ---- closed forms


def test_penalty_of_a_linear_score():
    weight = double(3, 4, 5)
    s, t = double(2, 3, 4, 5), double(2, 3, 4, 5)
    value = gradient_penalty(lambda x: (x * weight).sum((1, 2, 3)), s, t, torch.rand(2))
    torch.testing.assert_close(value, (weight.norm() - 1) ** 2)


def test_penalty_is_taken_at_the_drawn_place():
    s, t = torch.zeros(3, 1, 1, 1, dtype=torch.float64), torch.full((3, 1, 1, 1), 2.0, dtype=torch.float64)
    alpha = torch.tensor([0.0, 0.25, 0.5])
    value = gradient_penalty(lambda x: x.flatten(1).square().sum(1), s, t, alpha)  # the norm is 4 alpha
    assert number(value) == pytest.approx(2 / 3, rel=1e-5)


def test_penalty_is_finite_at_zero_norm():
    weight = torch.zeros(3, 4, 5, requires_grad=True)
    value = gradient_penalty(
        lambda x: (x * weight).sum((1, 2, 3)), torch.ones(2, 3, 4, 5), torch.ones(2, 3, 4, 5), torch.rand(2)
    )
    value.backward()
    assert number(value) == pytest.approx(1, abs=1e-5)
    assert weight.grad.isfinite().all()


def test_the_image_meets_the_logits_size():
    image = pictures(2, 12, 20)
    want = image.double().reshape(2, 3, 6, 2, 10, 2).mean((3, 5)) / 127.5 - 1
    torch.testing.assert_close(condition(image, (6, 10), torch.float64), want)
    assert condition(image, (12, 20), torch.float32).aminmax() == ((image.float() / 127.5 - 1).aminmax())
    for size in [(24, 40), (6, 40), (5, 7)]:
        assert condition(image, size, torch.float32).shape == (2, 3, *size)
    assert condition(torch.zeros_like(image), (24, 40), torch.float32).unique().tolist() == [-1]


# ---- the roles


def test_it_offers_a_critic():
    assert isinstance(Holistic(), WithCritic)
    assert Holistic().kind == "wgan-gp"
    assert Holistic().lambda_gp == 10


def test_the_students_term_passes_through_the_critic_and_not_to_it():
    loss, s, image = made(), double(2, 5, 9, 11).requires_grad_(), pictures(2, 18, 22)
    loss(s, double(2, 5, 9, 11), image=image).backward()
    assert s.grad.abs().max() > 0
    assert all(p.grad is None for p in loss.parameters())
    assert all(p.requires_grad for p in loss.critic_parameters())


def test_the_critics_loss_gives_the_student_nothing():
    loss, image = made(), pictures(2, 18, 22)
    s, t = double(2, 5, 9, 11).requires_grad_(), double(2, 5, 9, 11).requires_grad_()
    loss.critic_loss(s, t, image=image, draw=loss.sample(tuple(s.shape), seed=0)).backward()
    assert s.grad is None
    assert t.grad is None
    assert all(p.grad.isfinite().all() for p in loss.critic_parameters())
    assert sum(float(p.grad.abs().sum()) > 0 for p in loss.critic_parameters()) >= 16


CHECKED = ("stages.0.bias", "stages.2.bias", "attentions.0.gamma", "attentions.1.query.bias", "score.bias")


@pytest.mark.parametrize("kind", ["wgan-gp", "hinge"])
def test_gradcheck_of_the_critics_loss(kind):
    loss = made(2, kind=kind, conv_dim=2)
    s, t, image = double(2, 2, 3, 4), double(2, 2, 3, 4), pictures(2, 6, 8)
    draw = loss.sample(tuple(s.shape), seed=0)
    own = dict(loss.critic.named_parameters())
    some = [name for name in own if name in CHECKED]

    def value(*given: Tensor) -> Tensor:
        changed = copy.deepcopy(loss)
        for name, x in zip(some, given, strict=True):
            module, _, leaf = name.rpartition(".")
            owner = changed.critic.get_submodule(module)
            delattr(owner, leaf)
            setattr(owner, leaf, x)
        return changed.critic_loss(s, t, image=image, draw=draw)

    assert torch.autograd.gradcheck(value, [own[name].detach().clone().requires_grad_() for name in some])


def test_the_image_matters_unless_unconditional():
    s, t, image = double(2, 5, 9, 11), double(2, 5, 9, 11), pictures(2, 18, 22)
    seeing = made()
    assert number(seeing(s, t, image=image)) != number(seeing(s, t, image=255 - image))
    blind = made(conditional=False)
    assert number(blind(s, t)) == number(blind(s, t, image=image))
    assert blind.critic.stages[0].in_channels == 5


@pytest.mark.parametrize("kind", ["wgan-gp", "hinge"])
@pytest.mark.parametrize("fill", [0.0, 1e4, -1e4, "spikes"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_finite_for_extreme_logits(kind, fill, dtype):
    loss, image = made(kind=kind, dtype=torch.float32), pictures(2, 9, 11)
    s = 1e4 * torch.randn(2, 5, 9, 11).sign() if fill == "spikes" else torch.full((2, 5, 9, 11), fill)
    s = s.to(dtype).requires_grad_()
    draw = loss.sample(tuple(s.shape), seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(s, s.detach(), image=image)
        critic = loss.critic_loss(s, s.detach(), image=image, draw=draw)  # coincident: the penalty is at one point
        (value + critic).backward()
    assert value.dtype == critic.dtype == torch.float32
    assert s.grad.dtype == dtype
    assert all(x.grad.isfinite().all() for x in (s, *loss.critic_parameters()) if x.grad is not None)


def test_the_critics_loss_is_the_same_under_autocast():
    loss, s, t, image = (
        made(dtype=torch.float32),
        torch.randn(2, 5, 9, 11),
        torch.randn(2, 5, 9, 11),
        pictures(2, 9, 11),
    )
    draw = loss.sample(tuple(s.shape), seed=0)
    want = loss.critic_loss(s, t, image=image, draw=draw)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert number(loss.critic_loss(s, t, image=image, draw=draw)) == number(want)
    with torch.no_grad():
        assert number(loss.critic_loss(s, t, image=image, draw=draw)) == number(want)


# ---- mistakes


def test_mistakes_are_named():
    s, image = torch.randn(2, 5, 9, 11), pictures(2, 9, 11)
    loss = made(dtype=torch.float32)
    with pytest.raises(UserError, match="'hinge'"):
        Holistic(kind="hing")
    with pytest.raises(UserError, match="lambda_gp"):
        Holistic(lambda_gp=0)
    with pytest.raises(UserError, match="conv_dim"):
        Holistic(conv_dim=0)
    with pytest.raises(UserError, match="call prepare"):
        Holistic()(s, s, image=image)
    with pytest.raises(UserError, match="at least 2 classes"):
        Holistic().prepare([(2, 1, 9, 11)], [(2, 1, 9, 11)], [nn.Identity()])
    with pytest.raises(UserError, match="conditional=False"):
        loss(s, s)
    with pytest.raises(UserError, match="uint8"):
        loss(s, s, image=image.float())
    with pytest.raises(UserError, match="1 images for 2"):
        loss(s, s, image=image[:1])
    with pytest.raises(UserError, match="takes no mask"):
        loss(s, s, image=image, valid=torch.ones(2, 9, 11))
    with pytest.raises(UserError, match="needs a draw"):
        loss.critic_loss(s, s, image=image, draw=None)
    with pytest.raises(UserError, match="made for logits"):
        loss(s[:, :4], s[:, :4], image=image)
    with pytest.raises(UserError, match="student is"):
        loss.critic_loss(s, s[..., 1:], image=image, draw=torch.rand(2))
