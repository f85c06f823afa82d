"""Tests in a process of their own: OpenVINO beside torch and ONNX Runtime has ended test workers without a word."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: what tests need, and where they are
FILES = [
    ("openvino", "tests/deploy/test_routes.py"),
    ("openvino", "tests/cli/test_cli_ship.py"),
    pytest.param("openvino", "tests/deploy/test_every_network.py", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    pytest.param("executorch", "tests/deploy/test_executorch.py", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("extra", "file"), FILES)
def test_in_a_process_of_its_own(extra: str, file: str) -> None:
    if find_spec(extra) is None:
        pytest.skip(f"the extra {extra} is not installed")
    words = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-m", "alone", file]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
