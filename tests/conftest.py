"""Shared fixtures: no more threads than cores, and the optional data beside the checkout."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads starve others
os.environ.pop("COLUMNS", None)  # the tests read tables as files get them, not as wide as a terminal

import pytest
import torch
from layouts import write_ade20k, write_camvid, write_cityscapes

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
#: two at most; of several workers each its share, as threads that wait for one another on one core take long
THREADS = max(1, min(2, CORES // WORKERS))
if WORKERS > 1:
    os.environ["OMP_NUM_THREADS"] = str(THREADS)  # of the processes that tests start, too


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    torch.set_num_threads(THREADS)


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Under nohup, Ctrl-C is ignored by all that a test starts: here it has its meaning."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    root = SHARED / "data" / "camvid"
    if not root.is_dir():
        pytest.skip("CamVid is not beside the checkout (../shared/data/camvid)")
    return root


@pytest.fixture(scope="session")
def cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tree as Cityscapes is distributed."""
    return write_cityscapes(tmp_path_factory.mktemp("cityscapes"))


@pytest.fixture(scope="session")
def ade20k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tree as ADE20K is distributed."""
    return write_ade20k(tmp_path_factory.mktemp("ade"))


@pytest.fixture(scope="session")
def camvid_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tree in CamVid's layout."""
    return write_camvid(tmp_path_factory.mktemp("data") / "camvid", {"train": 6, "val": 2, "test": 2}, (64, 128))
