"""CIRKD's mini-batch term against published values, loops and closed forms."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from torch import Tensor
from torch.nn import functional as F
from traits import Trait

from segkd.losses import similarity
from segkd.losses.cirkd import CrossImageRelational, minibatch_pixel

# the mini-batch term, which uses no labels; test_cirkd_memory.py holds the memory terms, on filled queues, to the same
TRAIT = Trait(kwargs={"lambda_memory_pixel": 0.0, "lambda_memory_region": 0.0}, channels=2)


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_cirkd.py"
    spec = importlib.util.spec_from_file_location("textbook_cirkd", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_golden_minibatch(golden):
    g = golden("cirkd_minibatch_pixel")
    scale = scale_of("cirkd", "cirkd")
    only = CrossImageRelational(lambda_memory_pixel=0, lambda_memory_region=0)
    assert only.sample(tuple(g.student.shape), seed=0) is None
    g.check(lambda s, t: scale * only(s, t))
    g.check(lambda s, t: scale * only(s, t, torch.full((3, 6, 10), 255)))  # it uses no labels


def test_textbook_minibatch_is_the_published_one(golden, book):
    golden("cirkd_minibatch_pixel").check(book.minibatch_pixel)


@pytest.mark.parametrize("shape", [(3, 5, 2, 7), (1, 4, 9, 2), (2, 1, 1, 6), (4, 3, 1, 1)])
@pytest.mark.parametrize("temperature", [0.1, 1.5])
@pytest.mark.parametrize("block", [1, 20, 2**18])
@pytest.mark.parametrize("way", ["in pairs", "in rows", "with maxima"])
def test_textbook_minibatch(book, monkeypatch, shape, temperature, block, way):
    monkeypatch.setitem(similarity.BLOCK, "cpu", block)
    monkeypatch.setattr(similarity, "PAIR", 0 if way == "in rows" else 2**24)
    monkeypatch.setattr(similarity, "LARGEST", 0.0 if way == "with maxima" else 40.0)
    s, t = double(*shape).requires_grad_(), double(shape[0], 3, *shape[2:])
    value, want = minibatch_pixel(s, t, temperature), book.minibatch_pixel(s, t, temperature)
    torch.testing.assert_close(value, want, atol=1e-12, rtol=1e-9)
    grads = [torch.autograd.grad(v, s)[0] for v in (value, want)]
    torch.testing.assert_close(*grads, atol=1e-12, rtol=1e-7)


def test_similarities_too_large_for_plain_exponentials(book):
    s, t = torch.randn(2, 4, 3, 5).requires_grad_(), torch.randn(2, 3, 3, 5)
    value, want = minibatch_pixel(s, t, 1e-3), book.minibatch_pixel(s.double(), t.double(), 1e-3)
    torch.testing.assert_close(value.double(), want, rtol=1e-4, atol=1e-4)
    assert torch.autograd.grad(value, s)[0].isfinite().all()


def test_textbook_minibatch_with_mask(book):
    s, t = double(3, 4, 3, 5).requires_grad_(), double(3, 2, 3, 5)
    valid = torch.rand(3, 3, 5) < 0.6
    valid[1], valid[0, 0, 0], valid[2, 0, 0] = False, True, True
    value, want = minibatch_pixel(s, t, valid=valid), book.minibatch_pixel_masked(s, t, valid)
    torch.testing.assert_close(value, want)
    grad = torch.autograd.grad(value, s)[0]
    torch.testing.assert_close(grad, torch.autograd.grad(want, s)[0])
    assert grad.movedim(1, 3)[~valid].abs().max() == 0
    with torch.no_grad():
        s.movedim(1, 3)[~valid], t.movedim(1, 3)[~valid] = float("nan"), 1e4
    torch.testing.assert_close(minibatch_pixel(s, t, valid=valid), value)


def test_pooling_averages_cells():
    s, t = double(2, 4, 5, 6), double(2, 3, 5, 6)
    small = [F.avg_pool2d(x, 2, ceil_mode=True) for x in (s, t)]
    torch.testing.assert_close(minibatch_pixel(s, t, pool=2), minibatch_pixel(*small))
    valid = torch.ones(2, 5, 6, dtype=torch.bool)
    valid[:, :, 4:] = False  # whole cells
    cut = [x[..., :2] for x in small]
    torch.testing.assert_close(minibatch_pixel(s, t, valid=valid, pool=2), minibatch_pixel(*cut))
    valid[:, 0, 0] = False  # a part of a cell
    kept = [x.clone() for x in (s, t)]
    for x, y in zip((s, t), kept, strict=True):
        x[:, :, 0, 0], x[:, :, :, 4:] = float("nan"), float("nan")
        y[:, :, 0, 0] = y[:, :, :2, :2].flatten(2)[:, :, 1:].mean(2)
    torch.testing.assert_close(
        minibatch_pixel(s, t, valid=valid, pool=2), minibatch_pixel(*(y[..., :4] for y in kept), pool=2)
    )
    big, other = torch.randn(2, 1, 2, 256, 256)
    torch.testing.assert_close(minibatch_pixel(big, other), minibatch_pixel(big, other, pool=4))


def test_two_pixels_by_hand():
    s = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).view(1, 2, 1, 2)  # cosine 0
    t = torch.ones(1, 2, 1, 2, dtype=torch.float64)  # cosine 1: an even distribution
    high, low = math.e / (1 + math.e), 1 / (1 + math.e)
    want = 0.5 * math.log(0.5 / high) + 0.5 * math.log(0.5 / low)
    assert float(minibatch_pixel(s, t, temperature=1.0)) == pytest.approx(want, rel=1e-12)


def test_defaults_are_the_published_ones():
    loss = CrossImageRelational()
    assert [tuple(m) for m in loss.memories.values()] == [(0.1, 20000, 4096 // 19 + 1), (0.1, 2000, 1024 // 19 + 1)]
    assert loss.minibatch_weight == 1
    assert (loss.temperature, loss.contrast_temperature, loss.contrast_kd_temperature) == (0.1, 0.1, 1.0)
