"""What a result was measured with: versions, hardware, git commit."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import segkd
from segkd.evaluation.speed import hardware

PACKAGES = (
    "torch", "torchvision", "onedl-mmengine", "segmentation-models-pytorch", "timm", "opencv-python-headless",
    "onnxruntime",
)  # fmt: skip


def environment(seed: int | None = None) -> dict[str, Any]:
    """Versions, hardware, threads, git commit and seed, for metrics.json."""
    return {
        "segkd": segkd.__version__,
        "versions": {name: _version(name) for name in PACKAGES},
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "git_commit": git_commit(),
        "seed": seed,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The checkout's commit, with ``+`` where files differ from it; None for an installed package."""
    root = Path(segkd.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    return None if head is None else head + ("+" if _git(root, "status", "--porcelain") else "")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
