"""Af-DCD against published values, the published order, loops and closed forms."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from torch import Tensor, nn
from traits import Trait

from segkd.errors import UserError
from segkd.losses.af_dcd import Cut, DenseContrastive, omni_contrast

# a random block stands between student and teacher; its draw and its borders see a tiled map otherwise
TRAIT = Trait(
    kwargs={"groups": 2, "pool_size": 2, "patch_size": 2},
    shapes=((4, 5, 4),),
    zero=False,
    tiled=False,
    divisible=(2, 1, 1),
)

SMALL = Cut(groups=2, pool_size=2, patch_size=2)


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_af_dcd.py"
    spec = importlib.util.spec_from_file_location("textbook_af_dcd", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def made(shape: tuple[int, ...] = (2, 4, 8, 6), **options: float) -> DenseContrastive:
    torch.manual_seed(0)
    loss = DenseContrastive(groups=2, pool_size=2, patch_size=2, **options)
    loss.prepare([shape], [shape], [nn.Identity()])
    return loss.double()


def test_golden(golden):
    g = golden("afdcd_contrastive")
    scale = scale_of("af_dcd", "contrast", groups=16)
    g.check(lambda s, t: scale * omni_contrast(s, t, 0.07, Cut(groups=16, pool_size=2, patch_size=4)))


def test_textbook_form_is_the_published_one(golden, book):
    golden("afdcd_contrastive").check(lambda s, t: book.omni_contrast(s, t, 0.07, 16, 2, 4))


@pytest.mark.parametrize(
    ("shape", "cut"),
    [((2, 6, 8, 12), Cut(3, 2, 2)), ((1, 8, 4, 6), Cut(8, 1, 2)), ((3, 4, 9, 6), Cut(2, 3, 1))],
)
def test_textbook(book, shape, cut):
    s, t = double(*shape).requires_grad_(), double(*shape)
    scale = scale_of("af_dcd", "contrast", groups=cut.groups)
    value, want = scale * omni_contrast(s, t, 0.5, cut), book.omni_contrast(s, t, 0.5, *cut)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))


@pytest.mark.parametrize(
    ("shape", "cut"),
    [((2, 4, 5, 7), Cut(2, 2, 2)), ((1, 6, 1, 9), Cut(3, 4, 4)), ((2, 4, 6, 3), Cut(4, 1, 4))],
)
def test_any_size_and_mask(book, shape, cut):
    s, t = double(*shape), double(*shape)
    everywhere = torch.ones(shape[0], *shape[2:], dtype=torch.bool)
    torch.testing.assert_close(omni_contrast(s, t, 1.0, cut), book.loop(s, t, 1.0, *cut, everywhere))
    valid = torch.rand(everywhere.shape) < 0.4
    valid[:, 0, 0] = True
    want = book.loop(s, t, 1.0, *cut, valid)
    s = s.masked_fill(~valid[:, None], float("nan")).requires_grad_()
    value = omni_contrast(s, t.masked_fill(~valid[:, None], 1e4), 1.0, cut, valid)
    torch.testing.assert_close(value, want)
    (grad,) = torch.autograd.grad(value, s)
    assert grad.isfinite().all()
    assert grad.permute(0, 2, 3, 1)[~valid].abs().sum() == 0


def test_one_cell_by_hand():
    s = torch.tensor([0.0, 3.0], dtype=torch.float64).view(1, 2, 1, 1)
    t = torch.tensor([1.0, 5.0], dtype=torch.float64).view(1, 2, 1, 1)
    # group 0 is 1 from its own and 5 from the other one, group 1 is 2 from its own and 2 from the other
    want = (math.log(1 + math.exp((1 - 5) / 0.5)) + math.log(2)) / 2
    assert float(omni_contrast(s, t, 0.5, SMALL)) == pytest.approx(want, rel=1e-12)


def test_the_same_group_at_other_cells_is_left_out():
    t = torch.tensor([0.0, 50.0], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    assert float(omni_contrast(t, t, 1.0, Cut(2, 1, 2))) < 1e-20  # were they negatives, it would be log 4


def test_a_tiled_map_gives_the_same_contrast():
    s, t = double(2, 4, 8, 4), double(2, 4, 8, 4)
    want = omni_contrast(s, t, 1.0, SMALL)
    torch.testing.assert_close(omni_contrast(s.repeat(1, 1, 2, 2), t.repeat(1, 1, 2, 2), 1.0, SMALL), want)


def test_the_whole_loss_is_made_of_its_published_terms(book):
    shape = (2, 4, 8, 8)
    loss = made(shape, mask_ratio=0.3, lambda_fd=0.3, lambda_ocd=0.7, temperature=2.0)
    s, t = double(*shape), double(*shape)
    draw = loss.sample(shape, seed=3, index=[4, 9])
    kept = torch.where(draw > 1 - 0.3, 0.0, 1.0).double()
    first, _, last = loss.generation
    block = nn.functional.conv2d(s * kept, first.weight, first.bias, padding=1).relu()
    block = nn.functional.conv2d(block, last.weight, last.bias, padding=1)
    masked = nn.functional.mse_loss(block, t, reduction="sum") / 2 / scale_of("af_dcd", "masked", C=shape[1], H=8, W=8)
    contrast = book.omni_contrast(block, t, 2.0, 2, 2, 2)
    contrast = contrast / scale_of("af_dcd", "contrast", groups=2)
    torch.testing.assert_close(loss(s, t, draw=draw), 0.3 * masked + 0.7 * contrast)


def test_published_weights_are_the_defaults():
    loss = DenseContrastive()
    scales = [scale_of("af_dcd", name, C=2048, H=64, W=128, groups=loss.cut.groups) for name in ("masked", "contrast")]
    assert loss.lambda_fd == pytest.approx(2e-6 * scales[0], rel=2e-3)
    assert loss.lambda_ocd == pytest.approx(0.005 * scales[1])
    assert loss.cut == (16, 4, 4)


def test_draw_and_block():
    loss = made()
    assert sum(p.numel() for p in loss.parameters()) == 2 * (9 * 4 * 4 + 4)
    draw = loss.sample((2, 4, 64, 64), seed=1, index=[5, 6])
    assert abs(float((draw > 1 - loss.mask_ratio).double().mean()) - 0.75) < 0.02
    torch.testing.assert_close(draw[1:], loss.sample((1, 4, 64, 64), seed=1, index=[6]))
    s, t = double(2, 4, 8, 6), double(2, 4, 8, 6)
    loss(s, t, draw=loss.sample(s.shape, seed=1)).backward()
    assert all(p.grad is not None and p.grad.any() for p in loss.parameters())


def test_invalid_positions_do_not_reach_the_block():
    loss, s, t = made(), double(2, 4, 8, 6), double(2, 4, 8, 6)
    valid = torch.rand(2, 8, 6) < 0.6
    draw = loss.sample(s.shape, seed=1)
    want = loss(s, t, draw=draw, valid=valid)
    spoilt = s.masked_fill(~valid[:, None], float("nan")), t.masked_fill(~valid[:, None], 1e3)
    torch.testing.assert_close(loss(*spoilt, draw=draw, valid=valid), want)


def test_mistakes_are_named():
    f = torch.randn(2, 4, 8, 6)
    with pytest.raises(UserError, match="do not fall into 3"):
        omni_contrast(f, f, cut=Cut(3, 2, 2))
    with pytest.raises(UserError, match="Conv1x1"):
        omni_contrast(f, f[:, :2], cut=SMALL)
    with pytest.raises(UserError, match=r"\(N, C, H, W\)"):
        omni_contrast(f[0], f[0], cut=SMALL)
    with pytest.raises(UserError, match="valid mask"):
        omni_contrast(f, f, cut=SMALL, valid=torch.ones(2, 8, 8))
    for options, word in (
        ({"temperature": 0}, "temperature"),
        ({"groups": 1}, "groups"),
        ({"pool_size": 0}, "pool_size"),
        ({"patch_size": 1.5}, "patch_size"),
        ({"mask_ratio": 1}, "mask_ratio"),
        ({"lambda_fd": -1}, "lambda_fd"),
        ({"lambda_ocd": float("nan")}, "lambda_ocd"),
    ):
        with pytest.raises(UserError, match=word):
            DenseContrastive(**options)
    with pytest.raises(UserError, match="do not fall into 16"):
        DenseContrastive().prepare([f.shape], [f.shape], [])
    with pytest.raises(UserError, match="one tap"):
        DenseContrastive().prepare([f.shape] * 2, [f.shape] * 2, [])
    with pytest.raises(UserError, match="no weights yet"):
        DenseContrastive(groups=2)(f, f)
    with pytest.raises(UserError, match="needs a draw"):
        made()(f.double(), f.double())
