"""The critic of holistic distillation: its parts against closed forms, its state, and its training."""

from __future__ import annotations

import copy

import pytest
import torch
from sampling import sampled
from test_skd_holistic import double, made, number, pictures
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.losses.skd_critic import SMALLEST, Critic, SelfAttention, SpectralConv, pad_to
from segkd.losses.skd_holistic import Holistic, condition


def test_spectral_norm_is_the_largest_singular_value():
    torch.manual_seed(0)  # two singular values as near as others may draw them take thousands of iterations
    conv = SpectralConv(5, 6).double()
    conv.iterate(200)
    matrix = conv.weight.detach().flatten(1)
    largest = torch.linalg.svdvals(matrix)[0]
    torch.testing.assert_close(conv.u @ matrix @ conv.v, largest)
    x = double(1, 5, 4, 4)
    want = F.conv2d(x, conv.weight / largest, conv.bias, 2, 1)
    torch.testing.assert_close(conv(x), want)


def test_the_first_spectral_norms_are_nearly_right():
    torch.manual_seed(0)
    critic = Critic(14, 16)
    for stage in critic.stages:
        matrix = stage.weight.detach().flatten(1)
        sigma = stage.u @ matrix @ stage.v
        assert 0.97 < float(sigma / torch.linalg.svdvals(matrix)[0]) <= 1 + 1e-5


def test_attention_to_equal_positions_is_their_mean():
    attention = SelfAttention(8).double()
    with torch.no_grad():
        attention.query.weight.zero_(), attention.query.bias.zero_(), attention.gamma.fill_(2.0)
    x = double(2, 8, 3, 4)
    want = x + 2 * attention.value(x).mean((2, 3), keepdim=True)
    torch.testing.assert_close(attention(x), want)
    assert torch.equal(SelfAttention(8).double()(x), x)  # gamma is 0 at first


def test_small_maps_are_padded_evenly():
    x = torch.ones(1, 2, 45, 60)
    padded = pad_to(x, SMALLEST)
    assert padded.shape == (1, 2, 64, 64)
    assert torch.equal(padded[:, :, 9:54, 2:62], x)
    assert float(padded.sum()) == x.sum()
    assert pad_to(padded, SMALLEST) is padded


@pytest.mark.parametrize(
    ("size", "scores"),
    [
        ((1, 1), (1, 1)),
        ((45, 60), (1, 1)),
        ((64, 64), (1, 1)),
        ((79, 80), (1, 2)),
        ((65, 129), (1, 5)),
        ((3, 97), (1, 3)),
    ],
)
def test_any_size_gives_scores(size, scores):
    assert Critic(4, 2)(torch.randn(1, 4, *size)).shape == (1, 1, *scores)


def test_a_pass_changes_nothing_and_a_step_moves_the_norms():
    loss = made(dtype=torch.float32)
    s, t, image = torch.randn(2, 5, 9, 11), torch.randn(2, 5, 9, 11), pictures(2, 9, 11)
    draw = loss.sample(tuple(s.shape), seed=0)
    before = copy.deepcopy(loss.state_dict())
    values = [(loss(s, t, image=image), loss.critic_loss(s, t, image=image, draw=draw)) for _ in range(2)]
    loss.eval()
    values.append((loss(s, t, image=image), loss.critic_loss(s, t, image=image, draw=draw)))
    assert values[0] == values[1] == values[2]
    assert all(torch.equal(before[name], value) for name, value in loss.state_dict().items())
    with torch.no_grad():
        loss.critic.stages[1].weight += 0.1 * torch.randn_like(loss.critic.stages[1].weight)
    loss.after_step()
    moved = {name for name, value in loss.state_dict().items() if not torch.equal(before[name], value)}
    assert {"critic.stages.1.u", "critic.stages.1.v", "critic.stages.1.weight"} <= moved
    assert all(name.endswith((".u", ".v", "stages.1.weight")) for name in moved)


def test_the_state_dict_holds_the_critic_and_its_norms():
    first, second = made(), made()
    with torch.no_grad():
        for p in first.parameters():
            p += 0.01 * torch.randn_like(p)
    first.after_step()
    assert {"critic.stages.0.u", "critic.stages.3.v", "critic.attentions.1.gamma"} <= set(first.state_dict())
    second.load_state_dict(first.state_dict())
    s, t, image = double(2, 5, 9, 11), double(2, 5, 9, 11), pictures(2, 9, 11)
    draw = first.sample(tuple(s.shape), seed=0)
    values = [loss.critic_loss(s, t, image=image, draw=draw) for loss in (first, second)]
    assert number(values[0]) == number(values[1])


def test_the_start_follows_the_random_state_and_leaves_it():
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = made().state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], value) for name, value in made().state_dict().items())
    torch.manual_seed(2)
    assert not torch.equal(first["critic.score.weight"], made().state_dict()["critic.score.weight"])


def test_draws_belong_to_samples():
    loss = Holistic()
    whole = loss.sample((3, 5, 4, 6), seed=7, index=[4, 9, 2])
    assert whole.shape == (3,)
    assert len(whole.unique()) == 3
    assert torch.equal(loss.sample((1, 5, 8, 8), seed=7, index=[9]), whole[1:2])
    assert not torch.equal(loss.sample((3, 5, 4, 6), seed=8, index=[4, 9, 2]), whole)
    assert Holistic(kind="hinge").sample((3, 5, 4, 6), seed=7) is None


@pytest.mark.parametrize("kind", ["wgan-gp", "hinge"])
def test_two_processes_critic_gradients_average_to_one(kind):
    """No pass communicates, so a process is a call; the engine averages the gradients."""
    loss, s, t, image = made(kind=kind), double(4, 5, 9, 11), double(4, 5, 9, 11), pictures(4, 9, 11)

    def gradients(part: slice) -> tuple[Tensor, ...]:
        index = list(range(4))[part]
        draw = loss.sample(tuple(s[part].shape), seed=1, index=index)
        value = loss.critic_loss(s[part], t[part], image=image[part], draw=draw)
        return torch.autograd.grad(value, loss.critic_parameters(), allow_unused=True, materialize_grads=True)

    halves = [gradients(slice(0, 2)), gradients(slice(2, 4))]
    mean = tuple((a + b) / 2 for a, b in zip(*halves, strict=True))
    torch.testing.assert_close(mean, gradients(slice(0, 4)))


def stripes(phase: int) -> Tensor:
    """Logits (4, 3, 16, 20) of noisy diagonal stripes, seen in the image as well."""
    y, x = torch.meshgrid(torch.arange(16), torch.arange(20), indexing="ij")
    target = F.one_hot((x + y + phase) // 4 % 3, 3).permute(2, 0, 1).float()
    return 4 * target + 0.5 * torch.randn(4, 3, 16, 20)


@pytest.mark.parametrize("kind", sampled(["wgan-gp", "hinge"], 2))
def test_the_critic_tells_two_distributions_apart(kind):
    torch.manual_seed(0)
    loss = made(3, dtype=torch.float32, kind=kind)
    image = torch.zeros(4, 3, 16, 20, dtype=torch.uint8)
    optimizer = torch.optim.Adam(loss.critic_parameters(), lr=2e-3, betas=(0.5, 0.9))

    def distance() -> float:
        return number(loss(stripes(4), stripes(0), image=image) - loss(stripes(0), stripes(0), image=image))

    before = distance()
    for step in range(40):
        s, t = stripes(4), stripes(0)
        optimizer.zero_grad()
        loss.critic_loss(s, t, image=image, draw=loss.sample(tuple(s.shape), seed=step)).backward()
        optimizer.step()
        loss.after_step()
    with torch.no_grad():
        p_s, p_t = stripes(4).softmax(1), stripes(0).softmax(1)
        seen = condition(image, (16, 20), torch.float32)
        of_s, of_t = (loss.critic(torch.cat([p, seen], 1)) for p in (p_s, p_t))
    assert of_t.min() > of_s.max()  # every single map is told
    assert distance() > before + 0.5


@pytest.mark.parametrize("kind", ["wgan-gp", "hinge"])
@pytest.mark.slow
def test_two_hundred_alternating_steps(kind):
    torch.manual_seed(0)
    loss = made(3, dtype=torch.float32, kind=kind, conv_dim=4)
    student = nn.Conv2d(3, 3, 1)
    of_student = torch.optim.SGD(student.parameters(), lr=0.05)
    of_critic = torch.optim.Adam(loss.critic_parameters(), lr=4e-4, betas=(0.9, 0.99))
    for step in range(200):
        t = stripes(0)
        image = (t.softmax(1) * 255).byte()
        s = student(image.float() / 255)
        draw = loss.sample(tuple(s.shape), seed=step)
        of_student.zero_grad()
        value = loss(s, t, image=image, draw=draw)
        value.backward()
        of_student.step()
        of_critic.zero_grad()
        critic = loss.critic_loss(s.detach(), t, image=image, draw=draw)
        critic.backward()
        of_critic.step()
        loss.after_step()
        assert value.isfinite()
        assert critic.isfinite()
    assert all(x.isfinite().all() for x in (*student.parameters(), *loss.state_dict().values()))
