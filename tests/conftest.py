"""Shared fixtures: two threads at most, and the optional data beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(autouse=True, scope="session")
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    root = SHARED / "data" / "camvid"
    if not root.is_dir():
        pytest.skip("CamVid is not beside the checkout (../shared/data/camvid)")
    return root
