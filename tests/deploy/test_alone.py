"""Tests in a process of their own: OpenVINO beside torch and ONNX Runtime has ended test workers without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("tests/deploy/test_routes.py", "tests/cli/test_cli_ship.py")


@pytest.mark.parametrize("file", FILES)
def test_openvino_in_a_process_of_its_own(file: str) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    words = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-m", "alone", file]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
