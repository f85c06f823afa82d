"""Fixtures of the loss tests: the published implementations' golden cases, and the textbook forms as a module."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

TESTS = Path(__file__).resolve().parents[1]


class Golden(NamedTuple):
    """What a published implementation was given and gave: float64 inputs, value, gradient to the student."""

    student: Tensor
    teacher: Tensor
    value: Tensor
    grad: Tensor

    def check(self, form: Callable[[Tensor, Tensor], Tensor], offset: Tensor | float = 0.0) -> None:
        """``form(student, teacher)`` equals value - offset (rtol 1e-9), and so do the gradients (rtol 1e-7)."""
        student = self.student.clone().requires_grad_()
        value = form(student, self.teacher)
        (grad,) = torch.autograd.grad(value, student)
        torch.testing.assert_close(value.detach(), self.value - offset, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(grad, self.grad, rtol=1e-7, atol=1e-14)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    arrays = np.load(TESTS / "golden" / "losses.npz")

    def case(name: str, index: str = "") -> Golden:
        keys = (f"in/s{index}", f"in/t{index}", "out/loss", f"grad_loss/s{index}")
        return Golden(*(torch.from_numpy(arrays[f"{name}/{key}"]) for key in keys))

    return case


@pytest.fixture(scope="session")
def golden_arrays() -> Callable[[str], dict[str, Tensor]]:
    """``golden_arrays("vid")["param/log_scale"]``: all of a case's arrays (see golden/losses.json for their names)."""
    arrays = np.load(TESTS / "golden" / "losses.npz")

    def case(name: str) -> dict[str, Tensor]:
        found = {k[len(name) + 1 :]: torch.from_numpy(arrays[k]) for k in arrays.files if k.startswith(f"{name}/")}
        assert found, f"no golden case {name!r}"
        return found

    return case


@pytest.fixture(scope="session")
def forms() -> ModuleType:
    spec = importlib.util.spec_from_file_location("textbook_forms", TESTS / "textbook" / "forms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
