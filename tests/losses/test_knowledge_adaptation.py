"""Knowledge adaptation: its two terms against textbook forms, its parts, its first stage."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from torch import Tensor, nn
from traits import Trait

from segkd.errors import UserError
from segkd.losses.base import WithCritic, WithFirstStage
from segkd.losses.knowledge_adaptation import KnowledgeAdaptation, affinity

# random networks stand before the comparison: their borders see a tiled map otherwise
TRAIT = Trait(channels=4, zero=False, tiled=False)


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_knowledge_adaptation.py"
    spec = importlib.util.spec_from_file_location("textbook_knowledge_adaptation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def ready(student: int = 3, teacher: int = 6, **options: float) -> KnowledgeAdaptation:
    torch.manual_seed(0)
    loss = KnowledgeAdaptation(**options)
    loss.prepare([(1, student, 4, 4)], [(1, teacher, 4, 4)], [nn.Identity()])
    return loss.double()


def test_golden_is_torchdistills_other_affinity(golden, book):
    g = golden("ka_affinity_torchdistill")
    g.check(book.affinity_torchdistill)
    # unit vectors a, b: ||a a' - b b'||_F^2 = 2 - 2 (a . b)^2; the maps' directions over space, not the pixels' vectors
    s, t = (nn.functional.normalize(x.flatten(2), dim=2) for x in (g.student, g.teacher))
    closed = (2 - 2 * (s * t).sum(2).square()).sqrt().sum(1).mean() / s.shape[2]
    torch.testing.assert_close(closed, g.value)
    assert not torch.isclose(affinity(g.student, g.teacher), g.value, rtol=0.1)


@pytest.mark.parametrize(("shape", "channels"), [((2, 5, 3, 7), 4), ((1, 30, 4, 2), 9), ((3, 2, 1, 6), 8)])
def test_the_papers_affinity(book, shape, channels):
    s, t = double(*shape).requires_grad_(), double(shape[0], channels, *shape[2:])
    scale = scale_of("knowledge_adaptation", "affinity")
    value, want = scale * affinity(s, t), book.affinity(s, t)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))


def test_affinity_does_not_see_a_rotation_but_torchdistills_does(book):
    s = double(2, 3, 4, 5)
    rotation, _ = torch.linalg.qr(double(3, 3))
    turned = torch.einsum("dc,nchw->ndhw", rotation, s)
    assert float(affinity(turned, s)) < 1e-15
    assert float(book.affinity_torchdistill(turned, s)) > 1e-2


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_whole_loss_is_made_of_its_terms(book, size, stride):
    loss = ready(stride=stride, lambda_adapt=0.3, lambda_affinity=0.7)
    s, t = double(2, 3, *size).requires_grad_(), double(2, 6, *size)
    convs = [m for m in loss.autoencoder.encoder if isinstance(m, nn.Conv2d)]
    code = t
    for i, conv in enumerate(convs):
        code = nn.functional.conv2d(code, conv.weight, conv.bias, stride=stride if i == 0 else 1, padding=1)
        code = code if i == 2 else nn.functional.leaky_relu(code, 0.1)
    adapted = [
        nn.functional.conv2d(s, part.weight, part.bias, stride=stride, padding=1)
        for part in (loss.feature_adapter, loss.affinity_adapter)
    ]
    assert code.shape == adapted[0].shape == (2, 3, -(-size[0] // stride), -(-size[1] // stride))
    scale = scale_of("knowledge_adaptation", "adapt", C=code.shape[1], H=code.shape[2], W=code.shape[3])
    want = 0.3 / scale * book.adapt(adapted[0], code.detach()) + 0.7 * book.affinity(adapted[1], code.detach())
    value = loss(s, t)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))


def test_published_weights_are_the_defaults():
    loss = KnowledgeAdaptation()
    scale = scale_of("knowledge_adaptation", "adapt", C=128, H=32, W=64)
    assert loss.lambda_adapt == pytest.approx(50 * scale, rel=0.03)
    assert loss.lambda_affinity == scale_of("knowledge_adaptation", "affinity")


def test_the_first_stage_by_hand():
    loss, t = ready(), double(2, 6, 5, 8)
    code, made = loss.autoencoder(t)
    assert made.shape == t.shape
    want = (nn.functional.mse_loss(made, t, reduction="sum") + 1e-7 * code.abs().sum()) / (2 * 6 * 5 * 8)
    torch.testing.assert_close(loss.first_stage_loss(t), want)
    torch.testing.assert_close(loss.first_stage_loss((t,)), want)
    sparsity = (loss.first_stage_loss(t) - nn.functional.mse_loss(made, t)) * t.numel() / code.abs().sum()
    assert float(sparsity.detach()) == pytest.approx(1e-7, rel=1e-3)


def test_the_first_stage_learns_and_trains_the_autoencoder_alone():
    loss, t = ready(teacher=2, k=1.0, stride=1), double(2, 2, 6, 6)
    assert isinstance(loss, WithFirstStage)
    assert not isinstance(loss, WithCritic)
    own = loss.first_stage_parameters()
    assert {id(p) for p in own} == {id(p) for p in loss.autoencoder.parameters()}
    optimizer = torch.optim.Adam(own, lr=1e-2)
    before = float(loss.first_stage_loss(t).detach())
    for _ in range(80):
        optimizer.zero_grad()
        value = loss.first_stage_loss(t)
        value.backward()
        optimizer.step()
    assert float(value.detach()) < 0.5 * before
    assert all(p.grad is None for part in (loss.feature_adapter, loss.affinity_adapter) for p in part.parameters())


@pytest.mark.parametrize("frozen", [True, False])
def test_the_main_stage_trains_the_adapters_alone(frozen):
    loss = ready()
    for p in loss.first_stage_parameters():
        p.requires_grad_(not frozen)
    loss(double(2, 3, 5, 6), double(2, 6, 5, 6)).backward()
    assert all(p.grad is None for p in loss.autoencoder.parameters())
    for part in (loss.feature_adapter, loss.affinity_adapter):
        assert part.weight.grad.abs().max() > 0


def test_positions_left_out_take_no_part():
    loss, s, t = ready(), double(2, 3, 6, 8), double(2, 6, 6, 8)
    valid = torch.rand(2, 6, 8) < 0.5
    valid[1] = False
    want = loss(s[:1], t[:1], valid=valid[:1])
    s = s.masked_fill(~valid[:, None], float("nan")).requires_grad_()
    value = loss(s, t.masked_fill(~valid[:, None], 1e4), valid=valid)
    torch.testing.assert_close(value, want)
    (grad,) = torch.autograd.grad(value, s)
    assert grad.isfinite().all()
    assert grad.masked_select(~valid[:, None]).abs().max() == 0


def test_parts_do_not_move_the_random_state():
    torch.manual_seed(3)
    want = torch.rand(4)
    torch.manual_seed(3)
    loss = KnowledgeAdaptation()
    loss.prepare([(1, 3, 4, 4)], [(1, 6, 4, 4)], [])
    torch.testing.assert_close(torch.rand(4), want)
    assert loss.autoencoder.encoder[0].weight.shape == (3, 6, 3, 3)
    assert not torch.equal(loss.feature_adapter.weight, loss.affinity_adapter.weight)


def test_mistakes_are_named():
    f = torch.randn(2, 3, 4, 6)
    with pytest.raises(UserError, match="no weights yet"):
        KnowledgeAdaptation()(f, f)
    with pytest.raises(UserError, match="no weights yet"):
        KnowledgeAdaptation().first_stage_parameters()
    with pytest.raises(UserError, match="one tap"):
        KnowledgeAdaptation().prepare([f.shape] * 2, [f.shape] * 2, [])
    with pytest.raises(UserError, match="one N, H and W"):
        ready()(f.double(), double(2, 6, 4, 5))
    with pytest.raises(UserError, match="valid mask"):
        ready()(f.double(), double(2, 6, 4, 6), valid=torch.ones(2, 4, 4))
    for options, word in (
        ({"k": 0}, "k, the code"),
        ({"stride": 0}, "stride"),
        ({"p": 0.5}, "p must"),
        ({"lambda_adapt": -1}, "lambda_adapt"),
        ({"lambda_affinity": float("nan")}, "lambda_affinity"),
    ):
        with pytest.raises(UserError, match=word):
            KnowledgeAdaptation(**options)
    assert KnowledgeAdaptation.any_channels
