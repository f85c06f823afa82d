"""SKD's pair-wise term against published values, similarities held whole, loops and closed forms."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of
from torch import Tensor
from traits import Trait

from segkd.errors import UserError
from segkd.losses.skd_pair import PairWise, cell_of, pair_wise

# the published gradient takes the vectors' lengths as constants; a test below checks the one that does not
TRAIT = Trait(channels=2, smooth=False)


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_skd_pair.py"
    spec = importlib.util.spec_from_file_location("textbook_skd_pair", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def compare(form, want, student: Tensor, teacher: Tensor) -> None:
    """Value and gradient of both forms."""
    s = student.clone().requires_grad_()
    a, b = form(s, teacher), want(s, teacher)
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(torch.autograd.grad(a, s), torch.autograd.grad(b, s))


def test_golden(golden):
    g = golden("skd_pairwise_nopool")
    _, c, h, w = g.student.shape
    assert h * w > c  # the form of channel products
    g.check(lambda s, t: scale_of("skd_pair", "skd") * PairWise()(s, t))


def test_textbook_form_is_the_published_one(golden, book):
    golden("skd_pairwise_nopool").check(book.skd)


SHAPES = [
    ((2, 5, 6, 7), 3),  # more nodes than channels, teacher narrower
    ((2, 3, 6, 7), 8),  # teacher wider
    ((1, 4, 9, 5), 4),
    ((3, 40, 4, 6), 30),  # fewer nodes than channels: the similarities themselves
    ((2, 6, 1, 1), 6),
    ((1, 1, 7, 4), 2),
]


@pytest.mark.parametrize(("shape", "channels"), SHAPES)
def test_textbook(book, shape, channels):
    s, t = double(*shape), double(shape[0], channels, *shape[2:])
    compare(pair_wise, book.skd, s, t)
    compare(lambda a, b: pair_wise(a, b, detach_norm=False), lambda a, b: book.cirkd(a, b, (1, 1)), s, t)


@pytest.mark.parametrize(("shape", "channels"), SHAPES)
@pytest.mark.parametrize("pool", [("scale", 0.5), ("kernel", 2), ("kernel", 3), ("scale", 0.3)])
def test_textbook_with_pooling(book, shape, channels, pool):
    s, t = double(*shape), double(shape[0], channels, *shape[2:])
    kind, size = pool
    cell = tuple(max(1, int(size * x)) if kind == "scale" else min(size, x) for x in shape[2:])
    compare(PairWise(pool), lambda a, b: book.skd(a, b, cell), s, t)
    compare(PairWise(pool, detach_norm=False), lambda a, b: book.cirkd(a, b, cell), s, t)


@pytest.mark.parametrize(
    ("pool", "size", "nodes"),
    [
        (("scale", 0.5), (65, 65), 9),  # SKD's 65 x 65 map has 3 x 3 nodes, 64 x 128 has 2 x 2
        (("scale", 0.5), (64, 128), 4),
        (("kernel", 2), (64, 128), 2048),
        (None, (5, 4), 20),
    ],
)
def test_nodes_of_the_published_poolings(pool, size, nodes):
    cell = cell_of(pool, *size)
    assert -(-size[0] // cell[0]) * -(-size[1] // cell[1]) == nodes


@pytest.mark.parametrize("pool", [None, ("kernel", 2), ("scale", 0.5)])
@pytest.mark.parametrize("channels", [1, 4])
def test_ignored_pixels_take_no_part(book, pool, channels):
    s, t = double(3, channels, 5, 7), double(3, 6, 5, 7)
    valid = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(1)) < 0.6
    valid[2] = False  # a sample without any valid pixel is not counted
    want = book.loop(s, t, cell_of(pool, 5, 7), valid)
    s = s.masked_fill(~valid[:, None], 50.0 if pool else float("nan")).requires_grad_()
    value = pair_wise(s, t.masked_fill(~valid[:, None], 1e4), pool, valid=valid)
    torch.testing.assert_close(value, want, rtol=1e-5, atol=0)  # 1e-8 beside a short length
    (grad,) = torch.autograd.grad(value, s)
    assert grad.isfinite().all()
    assert grad.masked_select(~valid[:, None]).abs().max() == 0


def test_two_pixels_by_hand():
    s = torch.tensor([[1.0, 0.0], [1.0, 2.0]], dtype=torch.float64).T.reshape(1, 2, 1, 2)
    t = torch.tensor([[0.0, 3.0], [5.0, 0.0]], dtype=torch.float64).T.reshape(1, 2, 1, 2)
    assert float(pair_wise(s, t)) == pytest.approx((2 / 4) * (1 / 5**0.5) ** 2, rel=1e-7)


def test_rotations_and_lengths_do_not_matter():
    s = double(2, 3, 6, 5)
    rotation, _ = torch.linalg.qr(double(3, 3))
    length = double(2, 1, 6, 5).exp()
    assert float(pair_wise(s, length * torch.einsum("dc,nchw->ndhw", rotation, s))) < 1e-13


def test_gradient_of_the_length():
    s, t = double(2, 3, 4, 5).requires_grad_(), double(2, 5, 4, 5)
    valid = torch.rand(2, 4, 5) < 0.7
    for pool in (None, ("kernel", 2)):
        assert torch.autograd.gradcheck(lambda x, p=pool: pair_wise(x, t, p, detach_norm=False), (s,))
        assert torch.autograd.gradcheck(lambda x, p=pool: pair_wise(x, t, p, False, valid), (s,))
    (along,) = torch.autograd.grad(pair_wise(s, t, detach_norm=False), s)
    torch.testing.assert_close((along * s).sum(1), torch.zeros(2, 4, 5, dtype=torch.float64))


def test_single_precision_holds_near_the_minimum(book):
    t = double(1, 16, 12, 20)
    s = t + 1e-4 * double(1, 16, 12, 20)
    value, want = pair_wise(s.float(), t.float()), book.skd(s.float().double(), t.float().double())
    torch.testing.assert_close(value.double(), want, rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [(1, 2), (4, 5)])  # few and many nodes for the channels
def test_faint_vectors_fade_out(size):
    s, t = double(1, 3, *size), double(1, 3, *size)
    s[..., 0] *= 1e-6
    s.requires_grad_()
    rows, unit = s.flatten(2)[0].T, torch.nn.functional.normalize(t.flatten(2)[0].T)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-4)
    want = (rows @ rows.T - unit @ unit.T).square().mean()
    value = pair_wise(s, t, detach_norm=False)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s))


def test_mistakes_are_named():
    f = torch.randn(2, 3, 4, 6)
    with pytest.raises(UserError, match="one N, H and W"):
        pair_wise(f, f[..., :4])
    with pytest.raises(UserError, match="one N, H and W"):
        pair_wise(f[0], f[0])
    with pytest.raises(UserError, match="valid mask"):
        pair_wise(f, f, valid=torch.ones(2, 3, 6))
    for pool in ("scale", ("scale", 0), ("scale", 2), ("kernel", 0), ("kernel", 1.5), ("mean", 2), ("kernel", True)):
        with pytest.raises(UserError, match="pool is"):
            PairWise(pool)
    assert PairWise(["kernel", 2]).pool == ("kernel", 2)
    assert PairWise.any_channels


def test_default_is_cvpr_19_in_value_and_takes_lengths_as_constants_like_master():
    s, t = (torch.randn(2, 4, 3, 5, dtype=torch.float64) for _ in range(2))
    s.requires_grad_()
    default, journal = PairWise()(s, t), PairWise(pool=None, detach_norm=False)(s, t)
    torch.testing.assert_close(default, journal)
    (constant,), (whole,) = torch.autograd.grad(default, s), torch.autograd.grad(journal, s)
    assert (whole * s).sum(1).abs().max() < 1e-12 < (constant * s).sum(1).abs().max()
