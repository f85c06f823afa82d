"""SKD's pixel-wise term against the published value, less the teacher's entropy, and against kd."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scales import scale_of

from segkd import losses
from segkd.errors import UserError
from segkd.losses.kd import pixelwise_kd
from segkd.losses.skd_pixel import SKDPixel


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_skd_pixel.py"
    spec = importlib.util.spec_from_file_location("textbook_skd_pixel", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_golden_less_the_teachers_entropy(golden, book):
    g = golden("skd_pixelwise", "0")
    n = g.student.shape[0]
    scale = scale_of("skd_pixel", "skd", N=n)
    g.check(lambda s, t: scale * SKDPixel()(s, t), offset=scale * book.entropy_loop(g.teacher))


def test_textbook_form_is_the_published_one(golden, book):
    golden("skd_pixelwise", "0").check(book.skd_pixelwise)


@pytest.mark.parametrize("shape", [(2, 5, 3, 7), (1, 19, 9, 4), (3, 2, 1, 1)])
def test_textbook(book, shape):
    s, t = torch.randn(2, *shape, dtype=torch.float64)
    n = shape[0]
    scale = scale_of("skd_pixel", "skd", N=n)
    torch.testing.assert_close(scale * (SKDPixel()(s, t) + book.entropy_loop(t)), book.skd_pixelwise(s, t))


def test_it_is_kd_at_temperature_1_with_its_mask():
    s, t = torch.randn(2, 2, 5, 3, 4)
    valid = torch.rand(2, 3, 4) < 0.6
    loss = losses.create("skd_pixel")
    torch.testing.assert_close(loss(s, t), pixelwise_kd(s, t, 1.0))
    torch.testing.assert_close(loss(s, t, valid=valid), pixelwise_kd(s, t, 1.0, valid))


def test_mistakes_are_named():
    with pytest.raises(UserError, match="no argument 'temperature'"):
        losses.create("skd_pixel", temperature=4.0)
