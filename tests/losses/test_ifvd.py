"""Intra-class feature variation against published values, prototypes class by class, loops and closed forms."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from made import Made
from scales import scale_of
from torch import Tensor
from torch.nn import functional as F
from traits import Trait

from segkd.errors import UserError
from segkd.losses.ifvd import IntraClassVariation, intra_class_variation

TRAIT = Trait(kwargs={"num_classes": 3}, channels=2, classes=3)


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_ifvd.py"
    spec = importlib.util.spec_from_file_location("textbook_ifvd", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def golden_label(golden_arrays) -> Tensor:
    """At the features' size, as the published code resizes it."""
    label = golden_arrays("ifvd")["buf/labels"]
    return F.interpolate(label[:, None].double(), size=(6, 10), mode="nearest")[:, 0].long()


def inputs(shape: tuple[int, ...] = (2, 4, 5, 7), channels: int = 6, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    s, t = (torch.randn(shape[0], c, *shape[2:], dtype=torch.float64) for c in (shape[1], channels))
    return s, t, torch.randint(0, classes, (shape[0], *shape[2:]))


@pytest.mark.parametrize("published", ["ifvd", "cirkd"])
def test_golden(golden, golden_label, published):
    g = golden("ifvd")
    share = float((golden_label != 255).double().mean())
    assert share < 1
    scale = scale_of("ifvd", published, labelled=share)
    g.check(lambda s, t: scale * IntraClassVariation(num_classes=7)(s, t, golden_label))


def test_textbook_form_is_the_published_one(golden, golden_label, book):
    golden("ifvd").check(lambda s, t: book.ifvd(s, t, golden_label, 7))


@pytest.mark.parametrize(("shape", "channels"), [((2, 4, 5, 7), 6), ((1, 9, 8, 3), 9), ((3, 1, 1, 11), 2)])
@pytest.mark.parametrize("void", [0.0, 0.3])
def test_textbook(book, shape, channels, void):
    s, t, label = inputs(shape, channels, classes=4)
    label[torch.rand(label.shape) < void] = 255
    s.requires_grad_()
    value = intra_class_variation(s, t, label, 6)  # classes 4 and 5 are absent
    want = book.ifvd(s, t, label, 6) / (label != 255).double().mean()
    torch.testing.assert_close(value, want, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(value, s), torch.autograd.grad(want, s), rtol=1e-5, atol=1e-9)


def test_loops_over_counted_pixels(book):
    s, t, label = inputs((3, 4, 5, 7))
    label[0, 2:] = 255
    valid = torch.rand(3, 5, 7) < 0.7
    valid[2] = False  # an image without any counted pixel
    counted = valid & (label != 255)
    want = book.loop(s, t, label, counted)
    s = s.masked_fill(~counted[:, None], float("nan")).requires_grad_()
    value = intra_class_variation(s, t.masked_fill(~counted[:, None], 1e4), label, 3, valid=valid)
    torch.testing.assert_close(value, want)
    (grad,) = torch.autograd.grad(value, s)
    assert grad.isfinite().all()
    assert grad.masked_select(~counted[:, None]).abs().max() == 0


def test_two_pixels_by_hand():
    s = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).T.reshape(1, 2, 1, 2)
    t = torch.tensor([[2.0, 0.0], [5.0, 0.0]], dtype=torch.float64).T.reshape(1, 2, 1, 2)
    label = torch.zeros(1, 1, 2, dtype=torch.long)
    assert float(intra_class_variation(s, t, label, 1)) == pytest.approx((1 - 0.5**0.5) ** 2)  # cosines 0.707 and 1
    label[0, 0, 1] = 1  # each pixel is its own prototype: both cosines are 1
    assert float(intra_class_variation(s, t, label, 2)) == pytest.approx(0, abs=1e-12)


def test_prototypes_are_those_of_the_image():
    s, t, label = inputs((2, 4, 5, 7))
    terms = [intra_class_variation(s[n : n + 1], t[n : n + 1], label[n : n + 1], 3) for n in range(2)]
    torch.testing.assert_close(intra_class_variation(s, t, label, 3), torch.stack(terms).mean())


def test_other_classes_features_do_not_matter():
    s, t, label = inputs()
    counted = label != 1
    want = intra_class_variation(s, t, label.masked_fill(~counted, 255), 3)
    t[:, :, :, :] = torch.where(counted[:, None], t, s.new_full((), 7.0))
    s = torch.where(counted[:, None], s, s.new_full((), -3.0))  # equal cosines 1 on both sides in class 1
    torch.testing.assert_close(intra_class_variation(s, t, label, 3) / counted.double().mean(), want)


def test_faint_vectors_fade_out():
    s, t, label = inputs(classes=1)
    faint = (1e-6 * s).requires_grad_()
    means = faint.mean((2, 3), keepdim=True)
    cosine = (faint * means).sum(1) / 1e-4**2
    aim = F.cosine_similarity(t, t.mean((2, 3), keepdim=True), dim=1)
    value, want = intra_class_variation(faint, t, label, 1), (cosine - aim).square().mean()
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, faint), torch.autograd.grad(want, faint))


def test_the_gradient_is_the_one_map_made_and_finite_features_are_not_copied():
    s, t, label = inputs((4, 64, 5, 7), channels=64)
    label[0, 2:] = 255
    s.requires_grad_()
    with Made() as made:
        intra_class_variation(s, t, label, 3).backward()
    assert [name for name, numbers in made.tensors if numbers >= s.numel()] == ["mul"]
    assert [name for name, numbers in made.tensors if s[0].numel() <= numbers < s.numel()] == ["new_empty"] * 2


def test_mistakes_are_named():
    s, t, label = inputs()
    with pytest.raises(UserError, match="one N, H and W"):
        intra_class_variation(s, t[..., :4], label, 3)
    with pytest.raises(UserError, match="the label is"):
        intra_class_variation(s, t, label[:, :2], 3)
    with pytest.raises(UserError, match="a label is 2, but num_classes=2"):
        intra_class_variation(s, t, label, 2)
    with pytest.raises(UserError, match="valid mask"):
        intra_class_variation(s, t, label, 3, valid=torch.ones(2, 5))
    with pytest.raises(UserError, match="needs the labels"):
        IntraClassVariation()(s, t)
    with pytest.raises(UserError, match="num_classes"):
        IntraClassVariation(num_classes=0)
    assert IntraClassVariation.any_channels
